#include "kernels/cpu/dispatch.h"

#include <cpuid.h>

#include <cstdlib>
#include <string>

namespace baton::kernels::cpu {
namespace {

// CPUID leaf 1; clang before 16 does not know it by name. F16C works on the same registers as AVX,
// so that AVX2's check covers the operating system's part.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
// The checks include the operating system's support (XCR0).
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }

struct Candidate {
  const KernelTable& (*table)();
  bool (*supported)();
};
constexpr Candidate kCandidates[] = {
    {Avx512VnniKernels, HasAvx512Vnni},
    {Avx512Kernels, HasAvx512},
    {Avx2Kernels, HasAvx2},
};

}  // namespace

std::vector<const KernelTable*> SupportedKernels() {
  std::vector<const KernelTable*> tables;
  for (const Candidate& candidate : kCandidates)
    if (candidate.supported()) tables.push_back(&candidate.table());
  return tables;
}

Result<const KernelTable*> SelectKernels(std::string_view isa) {
  const char* forced = std::getenv("BATON_ISA");
  if (isa.empty() && forced) isa = forced;
  std::string names;
  for (const Candidate& candidate : kCandidates) {
    const KernelTable& table = candidate.table();
    names += (names.empty() ? "" : ", ") + std::string(table.isa);
    if (!isa.empty() && isa != table.isa) continue;
    if (candidate.supported()) return &table;
    if (!isa.empty()) return Error(Code::kUnsupported, "this CPU has no {}", isa);
  }
  if (isa.empty()) {
    return Error(Code::kUnsupported,
                 "this CPU lacks AVX2, FMA or F16C; use the reference backend");
  }
  return Error(Code::kInvalidArgument, "no instruction set '{}'; there are {}", isa, names);
}

}  // namespace baton::kernels::cpu
