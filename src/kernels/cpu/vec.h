// The vectors of the instruction set that the including file is compiled for. Only the
// kernels_<isa>.cpp files and the kernel bodies that they include may include this.
#pragma once

#if defined(__AVX512F__)
#include "kernels/cpu/vec_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/vec_avx2.h"
#else
#error "kernel bodies are compiled with an instruction set's flags only: see cmake/Modules.cmake"
#endif
