// The weighted sum of one segment.

namespace gmd::cpu {
namespace {

// A strip of four vectors of `out` stays in registers while all rows pass over it: each row is read once, out is
// written once, and only after every row of the strip was read, so that out may be one of the rows.
template <class E, class Weight>
void combine_strip(const E* const* rows, const Weight* weights, int t, E* out) {
  using Vector = decltype(load(out));
  constexpr int kStrip = 4, kStep = sizeof(Vector) / sizeof(Weight);
  Vector acc[kStrip] = {};
  for (int k = 0; k < t; ++k) {
#pragma GCC unroll 4
    for (int s = 0; s < kStrip; ++s) acc[s] += weights[k] * load(rows[k] + s * kStep);
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStrip; ++s) store(acc[s], out + s * kStep);
}

template <class E, class Weight>
void combine_rows(const void* const* rows, const double* weights, int t, int64_t n, void* out) {
  constexpr int64_t kStrip = 4 * GMD_VECTOR_BYTES / sizeof(Weight);  // elements
  Weight narrowed[kMaxObjectives];
  const E* at[kMaxObjectives];
  for (int k = 0; k < t; ++k) narrowed[k] = static_cast<Weight>(weights[k]);
  int64_t x = 0;
  for (; x + kStrip <= n; x += kStrip) {
    for (int k = 0; k < t; ++k) at[k] = static_cast<const E*>(rows[k]) + x;
    combine_strip(at, narrowed, t, static_cast<E*>(out) + x);
  }
  if (x == n) return;
  E rest[kMaxObjectives][kStrip] = {}, result[kStrip];
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
