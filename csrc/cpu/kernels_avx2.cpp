// Chosen at run time where the processor has it; the rest of the library is compiled without.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels.h"

#define GMD_ISA "avx2"
#define GMD_KERNELS avx2_kernels
#define GMD_VECTOR_BYTES 32
#define GMD_TILE 3

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "vectors.inl"

namespace gmd::cpu {
namespace {

inline Doubles widen_floats(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }

inline Doubles fold(Floats v) {
  return _mm256_cvtps_pd(_mm256_castps256_ps128(v)) + _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

inline Words widen_shorts(const uint16_t* p) {
  return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline Floats widen_halves(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline void narrow_to_halves(Floats v, uint16_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace gmd::cpu

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif  // __x86_64__
