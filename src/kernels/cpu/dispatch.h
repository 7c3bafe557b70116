// Which kernels this CPU can run.
#pragma once

#include <string_view>
#include <vector>

#include "common/status.h"
#include "kernels/cpu/kernel_table.h"

namespace baton::kernels::cpu {

// Instruction sets of this CPU that there are kernels for, best first. May be empty.
std::vector<const KernelTable*> SupportedKernels();

// The named one; with an empty name the one that BATON_ISA names, or the best. kInvalidArgument for
// a name that does not exist, kUnsupported for one that this CPU lacks.
Result<const KernelTable*> SelectKernels(std::string_view isa);

}  // namespace baton::kernels::cpu
