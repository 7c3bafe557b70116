// The kernel bodies for AVX2 with FMA and F16C.
#include "kernels/cpu/kernel_bodies.h"

namespace baton::kernels::cpu {

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = MakeTable("avx2");
  return kTable;
}

}  // namespace baton::kernels::cpu
