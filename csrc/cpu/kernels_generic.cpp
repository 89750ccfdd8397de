// What every compiler target has: SSE2 on x86-64, NEON on Arm.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels.h"

#define GMD_ISA "generic"
#define GMD_KERNELS generic_kernels
#define GMD_VECTOR_BYTES 16
#define GMD_TILE 3

#include "half.h"
#include "vectors.inl"

namespace gmd::cpu {
namespace {

inline Doubles widen_floats(const float* p) { return Doubles{double(p[0]), double(p[1])}; }

inline Doubles fold(Floats v) { return Doubles{double(v[0]) + double(v[2]), double(v[1]) + double(v[3])}; }

inline Words widen_shorts(const uint16_t* p) { return Words{p[0], p[1], p[2], p[3]}; }

inline Floats widen_halves(const uint16_t* p) {
  return Floats{float_of_half(p[0]), float_of_half(p[1]), float_of_half(p[2]), float_of_half(p[3])};
}

inline void narrow_to_halves(Floats v, uint16_t* p) {
  for (int lane = 0; lane < kWide; ++lane) p[lane] = half_of_float(v[lane]);
}

}  // namespace
}  // namespace gmd::cpu

#include "kernels.inl"
