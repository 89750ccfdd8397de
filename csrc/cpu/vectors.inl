// Vector registers, and how elements of each type get into and out of them.
#include <cstring>
#include <type_traits>

namespace gmd::cpu {
namespace {

constexpr int kWide = GMD_VECTOR_BYTES / 4;   // float32 in a vector
constexpr int kLanes = GMD_VECTOR_BYTES / 8;  // float64 in a vector

typedef float Floats __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(GMD_VECTOR_BYTES)));

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Anywhere in memory: the compiler makes one unaligned move of it.
template <class Vector>
inline Vector load_vector(const void* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class Vector>
inline void store_vector(Vector v, void* p) {
  std::memcpy(p, &v, sizeof v);
}

inline Doubles widen_floats(const float* p);
inline Doubles fold(Floats v);
inline Words widen_shorts(const uint16_t* p);
inline Floats widen_halves(const uint16_t* p);
inline void narrow_to_halves(Floats v, uint16_t* p);

inline Floats load(const float* p) { return load_vector<Floats>(p); }
inline Doubles load(const double* p) { return load_vector<Doubles>(p); }
inline Floats load(const Half* p) { return widen_halves(&p->bits); }

inline float float_of(float x) { return x; }
inline float float_of(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(Floats v, float* p) { store_vector(v, p); }
inline void store(Doubles v, double* p) { store_vector(v, p); }
inline void store(Floats v, Half* p) { narrow_to_halves(v, &p->bits); }
// The upper half of each lane is the nearest bfloat16, ties to even.
inline Words nearest_bfloat16(Floats v) {
  const Words bits = (Words)v;
  return v != v ? Words{} + 0x7fc00000 : bits + 0x7fff + ((bits >> 16) & 1);
}

// How elements of type E pass through registers: kStep of them at a time, in kPhases vectors.
template <class E>
struct Spread {
  using Vector = decltype(cpu::load(static_cast<const E*>(nullptr)));
  static constexpr int kPhases = 1;
  static constexpr int64_t kStep = std::is_same_v<Vector, Doubles> ? kLanes : kWide;
  static Vector load(const E* p, int) { return cpu::load(p); }
  static void store(const Vector* v, E* p) { cpu::store(v[0], p); }
};

// Neighbours share a lane, one phase for each: cheaper than to spread them over two vectors.
template <>
struct Spread<BFloat16> {
  using Vector = Floats;
  static constexpr int kPhases = 2;
  static constexpr int64_t kStep = 2 * kWide;
  static Vector load(const BFloat16* p, int phase) {
    const Words both = load_vector<Words>(p);
    return (Floats)(phase == 0 ? both << 16 : both & 0xffff0000);
  }
  static void store(const Vector* v, BFloat16* p) {
    store_vector(nearest_bfloat16(v[0]) >> 16 | (nearest_bfloat16(v[1]) & 0xffff0000), p);
  }
};

}  // namespace
}  // namespace gmd::cpu
