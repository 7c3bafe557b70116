// The kernel bodies for AVX-512 F/BW/VL/DQ.
#include "kernels/cpu/kernel_bodies.h"

namespace baton::kernels::cpu {

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kTable = MakeTable("avx512");
  return kTable;
}

}  // namespace baton::kernels::cpu
