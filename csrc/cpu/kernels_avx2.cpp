// Chosen at run time where the processor has it; the rest of the library is compiled without.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"

#define GMD_ISA "avx2"
#define GMD_KERNELS avx2_kernels
#define GMD_VECTOR_BYTES 32
#define GMD_TILE 3
#define GMD_LOAD(p) _mm256_cvtps_pd(_mm_loadu_ps(p))

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif  // __x86_64__
