// Chosen at run time where the processor has it; the rest of the library is compiled without.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels.h"

#define GMD_ISA "avx512"
#define GMD_KERNELS avx512_kernels
#define GMD_VECTOR_BYTES 64
#define GMD_TILE 5

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

#include "vectors.inl"

namespace gmd::cpu {
namespace {

inline Doubles widen_floats(const float* p) { return _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p)); }

inline Doubles fold(Floats v) {
  float lanes[kWide];
  store_vector(v, lanes);
  return widen_floats(lanes) + widen_floats(lanes + kLanes);
}

inline Words widen_shorts(const uint16_t* p) {
  return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline Floats widen_halves(const uint16_t* p) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline void narrow_to_halves(Floats v, uint16_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace
}  // namespace gmd::cpu

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif  // __x86_64__
