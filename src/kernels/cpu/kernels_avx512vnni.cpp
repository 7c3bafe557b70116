// The kernel bodies for AVX-512 with VNNI.
#include "kernels/cpu/kernel_bodies.h"

namespace baton::kernels::cpu {

const KernelTable& Avx512VnniKernels() {
  static constexpr KernelTable kTable = MakeTable("avx512-vnni");
  return kTable;
}

}  // namespace baton::kernels::cpu
