// The weighted sum of one segment.

namespace gmd::cpu {
namespace {

constexpr int kStrip = 4;                 // steps that pass through the registers together
constexpr int64_t kPrefetchBytes = 2048;  // ahead of what is being read; lines beyond the end of a row do no harm

// A strip of `out` stays in registers while all rows pass over it: each row is read once, out is written once, and only
// after every row of the strip was read, so that out may be one of the rows.
template <class E, class Weight>
void combine_strip(const E* const* rows, const Weight* weights, int t, E* out) {
  using S = Spread<E>;
  typename S::Vector acc[kStrip][S::kPhases] = {};
  for (int k = 0; k < t; ++k) {
    const char* ahead = reinterpret_cast<const char*>(rows[k]) + kPrefetchBytes;
#pragma GCC unroll 8
    for (int64_t line = 0; line < kStrip * S::kStep * int64_t{sizeof(E)}; line += 64)
      __builtin_prefetch(ahead + line, 0, 2);
#pragma GCC unroll 4
    for (int s = 0; s < kStrip; ++s) {
#pragma GCC unroll 2
      for (int phase = 0; phase < S::kPhases; ++phase) {
        acc[s][phase] += weights[k] * S::load(rows[k] + s * S::kStep, phase);
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStrip; ++s) S::store(acc[s], out + s * S::kStep);
}

template <class E, class Weight>
void combine_rows(const void* const* rows, const double* weights, int t, int64_t n, void* out) {
  constexpr int64_t kElements = kStrip * Spread<E>::kStep;
  Weight narrowed[kMaxObjectives];
  const E* at[kMaxObjectives];
  for (int k = 0; k < t; ++k) narrowed[k] = static_cast<Weight>(weights[k]);
  int64_t x = 0;
  for (; x + kElements <= n; x += kElements) {
    for (int k = 0; k < t; ++k) at[k] = static_cast<const E*>(rows[k]) + x;
    combine_strip(at, narrowed, t, static_cast<E*>(out) + x);
  }
  if (x == n) return;
  E rest[kMaxObjectives][kElements] = {}, result[kElements];
  for (int k = 0; k < t; ++k) {
    std::memcpy(rest[k], static_cast<const E*>(rows[k]) + x, (n - x) * sizeof(E));
    at[k] = rest[k];
  }
  combine_strip(at, narrowed, t, result);
  std::memcpy(static_cast<E*>(out) + x, result, (n - x) * sizeof(E));
}

void combine(Type type, const void* const* rows, const double* weights, int t, int64_t n, void* out) {
  switch (type) {
    case Type::kFloat:
      return combine_rows<float, float>(rows, weights, t, n, out);
    case Type::kDouble:
      return combine_rows<double, double>(rows, weights, t, n, out);
    case Type::kBFloat16:
      return combine_rows<BFloat16, float>(rows, weights, t, n, out);
    case Type::kHalf:
      return combine_rows<Half, float>(rows, weights, t, n, out);
  }
}

}  // namespace
}  // namespace gmd::cpu
