// Chosen at run time where the processor has it; the rest of the library is compiled without.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"

#define GMD_ISA "avx512"
#define GMD_KERNELS avx512_kernels
#define GMD_VECTOR_BYTES 64
#define GMD_TILE 5
#define GMD_LOAD(p) _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p))

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif  // __x86_64__
