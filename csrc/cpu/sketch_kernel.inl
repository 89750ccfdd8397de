// The elements of one run into their buckets, as many at a time as have their signs in one number.
#include "../sketch_map.h"

namespace gmd::cpu {
namespace {

typedef uint64_t Longs __attribute__((vector_size(GMD_VECTOR_BYTES)));
typedef uint16_t Shorts __attribute__((vector_size(GMD_VECTOR_BYTES / 2)));

// How a sketch of Scalar numbers takes elements of any type: neighbours in neighbouring lanes.
template <class Scalar>
struct Buckets;

template <>
struct Buckets<float> {
  using Vector = Floats;
  using Bits = Words;

  static Vector load(const float* p) { return cpu::load(p); }
  static Vector load(const Half* p) { return cpu::load(p); }
  static Vector load(const BFloat16* p) {
    return (Floats)(__builtin_convertvector(load_vector<Shorts>(p), Words) << 16);
  }
  static Vector load(const double* p) {
    float narrowed[kWide];
    for (int lane = 0; lane < kWide; ++lane) narrowed[lane] = static_cast<float>(p[lane]);
    return cpu::load(narrowed);
  }
};

template <>
struct Buckets<double> {
  using Vector = Doubles;
  using Bits = Longs;

  static Vector load(const double* p) { return cpu::load(p); }
  static Vector load(const float* p) { return widen_floats(p); }
  static Vector load(const BFloat16* p) {
    float widened[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) widened[lane] = float_of(p[lane]);
    return widen_floats(widened);
  }
  static Vector load(const Half* p) {
    Half row[kWide] = {};
    float widened[kWide];
    std::memcpy(row, p, kLanes * sizeof(Half));
    store(cpu::load(row), widened);
    return widen_floats(widened);
  }
};

// buckets[x] += values[x], subtracted where bit x of the word is set: that bit moves up to the lane's sign.
template <class Scalar, class E>
inline void add_word(Scalar* buckets, const E* values, uint64_t word) {
  using B = Buckets<Scalar>;
  using Bits = typename B::Bits;
  using Number = std::conditional_t<sizeof(Scalar) == 4, uint32_t, uint64_t>;
  constexpr int kBits = 8 * sizeof(Scalar), kPerVector = GMD_VECTOR_BYTES / sizeof(Scalar);
  constexpr int kVectors = kBits / kPerVector;  // whose signs fit into a lane
  constexpr Number kSign = Number{1} << (kBits - 1);
  Bits up;
  for (int lane = 0; lane < kPerVector; ++lane) up[lane] = kPerVector - 1 - lane;
#pragma GCC unroll 2
  for (int part = 0; part < kSignBits / kBits; ++part) {
    const Bits bits = (Bits{} + static_cast<Number>(word >> part * kBits)) << up;
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      const int at = part * kBits + v * kPerVector;
      const Bits flipped = (Bits)B::load(values + at) ^ (bits << (kBits - kPerVector * (v + 1)) & kSign);
      store(cpu::load(buckets + at) + (typename B::Vector)flipped, buckets + at);
    }
  }
}

// n < 64 elements, the first of which has bit `at` of the word.
template <class Scalar, class E>
void add_some(Scalar* buckets, const E* values, int64_t at, int64_t n, uint64_t word) {
  Scalar sums[kSignBits] = {};
  E row[kSignBits] = {};
  std::memcpy(sums + at, buckets, n * sizeof(Scalar));
  std::memcpy(row + at, values, n * sizeof(E));
  add_word(sums, row, word);
  std::memcpy(buckets, sums + at, n * sizeof(Scalar));
}

template <class Scalar, class E>
void sketch_run(const SketchRun& run) {
  Scalar* buckets = static_cast<Scalar*>(run.buckets);
  const E* values = static_cast<const E*>(run.values);
  for (int64_t x = 0; x < run.n;) {
    const int64_t element = run.first + x, at = element % kSignBits, n = std::min(run.n - x, kSignBits - at);
    const uint64_t word = sign_word(run.key, element / kSignBits);
    if (n == kSignBits) {
      add_word(buckets + x, values + x, word);
    } else {
      add_some(buckets + x, values + x, at, n, word);
    }
    x += n;
  }
}

template <class Scalar>
void sketch_of(const SketchRun& run) {
  switch (run.type) {
    case Type::kFloat:
      return sketch_run<Scalar, float>(run);
    case Type::kDouble:
      return sketch_run<Scalar, double>(run);
    case Type::kBFloat16:
      return sketch_run<Scalar, BFloat16>(run);
    case Type::kHalf:
      return sketch_run<Scalar, Half>(run);
  }
}

void sketch(const SketchRun& run) { run.sketch_type == Type::kDouble ? sketch_of<double>(run) : sketch_of<float>(run); }

}  // namespace
}  // namespace gmd::cpu
