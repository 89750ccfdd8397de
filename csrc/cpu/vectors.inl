// Vector registers, and how elements of each type get into and out of them.
#include <cstring>

namespace gmd::cpu {
namespace {

constexpr int kWide = GMD_VECTOR_BYTES / 4;   // float32 in a vector
constexpr int kLanes = GMD_VECTOR_BYTES / 8;  // float64 in a vector

typedef float Floats __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef uint16_t Shorts __attribute__((vector_size(GMD_VECTOR_BYTES / 2)));

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
inline Floats widen_halves(const uint16_t* p);
inline void narrow_to_halves(Floats v, uint16_t* p);

inline Floats load(const float* p) { return load_vector<Floats>(p); }
inline Doubles load(const double* p) { return load_vector<Doubles>(p); }
inline Floats load(const Half* p) { return widen_halves(&p->bits); }
inline Floats load(const BFloat16* p) { return (Floats)(__builtin_convertvector(load_vector<Shorts>(p), Words) << 16); }

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
inline void store(Floats v, BFloat16* p) {
  const Words bits = (Words)v, nearest = bits + 0x7fff + ((bits >> 16) & 1);  // ties to even
  store_vector(__builtin_convertvector((v != v ? Words{} + 0x7fc00000 : nearest) >> 16, Shorts), p);
}

}  // namespace
}  // namespace gmd::cpu
