// Elements of a few rows into their buckets, 64 of each row at a time, whose sums stay in registers meanwhile.
#include "../sketch_map.h"

namespace gmd::cpu {
namespace {

constexpr int kSketchVectors = 8;       // of sums that stay in registers
constexpr int64_t kSketchAhead = 1024;  // bytes that are prefetched; lines beyond the end of a row do no harm

typedef uint64_t Longs __attribute__((vector_size(GMD_VECTOR_BYTES)));

// How a sketch of Scalar numbers takes elements of any type: neighbours in neighbouring lanes.
template <class Scalar>
struct Buckets;

template <>
struct Buckets<float> {
  using Vector = Floats;
  using Bits = Words;

  static Vector load(const float* p) { return cpu::load(p); }
  static Vector load(const Half* p) { return cpu::load(p); }
  static Vector load(const BFloat16* p) { return (Floats)(widen_shorts(&p->bits) << 16); }
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

// buckets[x] += values[k][x] for all rows, subtracted where bit x of words[k] is set: it moves up to the lane's sign.
template <class Scalar, class E>
inline void add_words(Scalar* buckets, const E* const* values, const uint64_t* words, int count) {
  using B = Buckets<Scalar>;
  using Number = std::conditional_t<sizeof(Scalar) == 4, uint32_t, uint64_t>;
  constexpr int kBits = 8 * sizeof(Scalar), kPerVector = GMD_VECTOR_BYTES / sizeof(Scalar);
  constexpr int kVectors = std::min(kSketchVectors, kSignBits / kPerVector);
  constexpr int kGroup = std::min(kVectors, kBits / kPerVector);  // vectors whose signs are in one number of a lane
  constexpr Number kSign = Number{1} << (kBits - 1);
  typename B::Bits up;
  for (int lane = 0; lane < kPerVector; ++lane) up[lane] = kPerVector - 1 - lane;
  for (int part = 0; part < kSignBits; part += kVectors * kPerVector) {
    typename B::Vector sums[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[v] = cpu::load(buckets + part + v * kPerVector);
    for (int k = 0; k < count; ++k) {
      const E* row = values[k] + part;
#pragma GCC unroll 8
      for (int first = 0; first < kVectors; first += kGroup) {
        const auto bits = (typename B::Bits{} + static_cast<Number>(words[k] >> (part + first * kPerVector))) << up;
#pragma GCC unroll 8
        for (int v = 0; v < kGroup; ++v) {
          const auto sign = bits << (kBits - kPerVector * (v + 1)) & kSign;
          sums[first + v] += (typename B::Vector)((typename B::Bits)B::load(row + (first + v) * kPerVector) ^ sign);
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(sums[v], buckets + part + v * kPerVector);
  }
}

// The signs of a row's elements from any of them on, 64 at a time.
class Signs {
 public:
  Signs() = default;
  explicit Signs(const SketchRow& row)
      : key_(row.key), word_(row.first / kSignBits), skipped_(row.first % kSignBits), bits_(sign_word(key_, word_)) {}

  uint64_t next() {
    const uint64_t before = bits_;
    bits_ = sign_word(key_, ++word_);
    return before >> skipped_ | bits_ << 1 << (kSignBits - 1 - skipped_);
  }

 private:
  uint64_t key_ = 0, word_ = 0;
  int skipped_ = 0;
  uint64_t bits_ = 0;
};

template <class Scalar, class E>
void sketch_rows(const SketchRow* rows, int count, int64_t n, Scalar* buckets) {
  Signs signs[kSketchRows];
  const E* at[kSketchRows];
  uint64_t words[kSketchRows];
  for (int k = 0; k < count; ++k) signs[k] = Signs(rows[k]);
  int64_t x = 0;
  for (; x + kSignBits <= n; x += kSignBits) {
    for (int k = 0; k < count; ++k) {
      at[k] = static_cast<const E*>(rows[k].values) + x;
      words[k] = signs[k].next();
      const char* ahead = reinterpret_cast<const char*>(at[k]) + kSketchAhead;
#pragma GCC unroll 8
      for (int64_t line = 0; line < kSignBits * int64_t{sizeof(E)}; line += 64) __builtin_prefetch(ahead + line, 0, 2);
    }
    add_words(buckets + x, at, words, count);
  }
  if (x == n) return;
  Scalar sums[kSignBits] = {};
  E rest[kSketchRows][kSignBits] = {};
  for (int k = 0; k < count; ++k) {
    std::memcpy(rest[k], static_cast<const E*>(rows[k].values) + x, (n - x) * sizeof(E));
    at[k] = rest[k], words[k] = signs[k].next();
  }
  std::memcpy(sums, buckets + x, (n - x) * sizeof(Scalar));
  add_words(sums, at, words, count);
  std::memcpy(buckets + x, sums, (n - x) * sizeof(Scalar));
}

template <class Scalar>
void sketch_of(Type type, const SketchRow* rows, int count, int64_t n, void* buckets) {
  Scalar* to = static_cast<Scalar*>(buckets);
  switch (type) {
    case Type::kFloat:
      return sketch_rows<Scalar, float>(rows, count, n, to);
    case Type::kDouble:
      return sketch_rows<Scalar, double>(rows, count, n, to);
    case Type::kBFloat16:
      return sketch_rows<Scalar, BFloat16>(rows, count, n, to);
    case Type::kHalf:
      return sketch_rows<Scalar, Half>(rows, count, n, to);
  }
}

void sketch(Type of_sketch, Type type, const SketchRow* rows, int count, int64_t n, void* buckets) {
  (of_sketch == Type::kDouble ? sketch_of<double> : sketch_of<float>)(type, rows, count, n, buckets);
}

}  // namespace
}  // namespace gmd::cpu
