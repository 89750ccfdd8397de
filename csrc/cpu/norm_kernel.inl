// GroupNorm + ReLU over a run of elements. Which channel an element belongs to repeats with a period, a whole number of
// strips; constants come as tables of one period, in the order in which vectors hold the elements (`place_of`). A run
// of one channel has a period of 1.

namespace gmd::cpu {
namespace {

// Four vectors that are added up side by side: so many sums keep the multipliers busy.
template <class E>
struct Strip {
  using S = Spread<E>;
  using Vector = typename S::Vector;
  using Scalar = std::conditional_t<std::is_same_v<Vector, Doubles>, double, float>;
  static constexpr int kVectors = 4;
  static constexpr int64_t kWidth = sizeof(Vector) / sizeof(Scalar);
  static constexpr int64_t kLength = kVectors * kWidth;

  static Vector load(const E* p, int v) { return S::load(p + v / S::kPhases * S::kStep, v % S::kPhases); }
  // Where element i of a run stands in a table.
  static int64_t place_of(int64_t i) {
    return i / S::kStep * S::kStep + i % S::kPhases * kWidth + i % S::kStep / S::kPhases;
  }
};

constexpr int64_t kMostRows = 128;  // periods that are added up in float32, everything beyond in float64
constexpr int64_t kBlockBytes =
    16 << 10;  // that stay in the first-level cache while strip after strip passes over them

inline void add_lanes(double* sums, Doubles v) { store_vector(load_vector<Doubles>(sums) + v, sums); }
inline void add_lanes(double* sums, Floats v) {
  float lanes[kWide];
  store_vector(v, lanes);
  for (int lane = 0; lane < kWide; ++lane) sums[lane] += lanes[lane];
}

// sums[..] += one strip of partial sums, place by place, or all of it to the only place.
template <bool kOne, class P>
void add_strip(double* sums, const typename P::Vector* strip) {
  if constexpr (kOne) {
    const typename P::Vector all = (strip[0] + strip[1]) + (strip[2] + strip[3]);
    for (int lane = 0; lane < P::kWidth; ++lane) *sums += all[lane];
  } else {
    for (int v = 0; v < P::kVectors; ++v) add_lanes(sums + v * P::kWidth, strip[v]);
  }
}

template <bool kOne, class P>
typename P::Vector constants(const typename P::Scalar* table, int v) {
  if constexpr (kOne) return typename P::Vector{} + *table;
  return load_vector<typename P::Vector>(table + v * P::kWidth);
}

// The sums of x - shift and of its square.
struct Moments {
  static constexpr int kInputs = 1, kTables = 1;  // x; shift
  template <class Vector>
  static void add(const Vector* in, const Vector* table, Vector& first, Vector& second) {
    const Vector centred = in[0] - table[0];
    first += centred;
    second += centred * centred;
  }
};

// What passed the ReLU of (x - mean) * scale + bias. NaN passes, as torch's does.
template <class Vector>
inline Vector masked(Vector value, Vector centred, const Vector* table) {
  return centred * table[1] + table[2] <= 0 ? Vector{} : value;
}

// The sums of the masked gradient, and of its product with x - mean.
struct GradientSums {
  static constexpr int kInputs = 2, kTables = 3;  // x, gradient; mean, scale, bias
  template <class Vector>
  static void add(const Vector* in, const Vector* table, Vector& first, Vector& second) {
    const Vector centred = in[0] - table[0], gradient = masked(in[1], centred, table);
    first += gradient;
    second += gradient * centred;
  }
};

struct Forward {
  static constexpr int kInputs = 1, kTables = 3;  // x; mean, scale, bias
  template <class Vector>
  static Vector of(const Vector* in, const Vector* table) {
    const Vector z = (in[0] - table[0]) * table[1] + table[2];
    return z <= 0 ? Vector{} : z;
  }
};

struct Backward {
  static constexpr int kInputs = 2, kTables = 5;  // x, gradient; mean, scale, bias, slope, offset
  template <class Vector>
  static Vector of(const Vector* in, const Vector* table) {
    const Vector centred = in[0] - table[0];
    return masked(in[1], centred, table) * table[1] + (centred * table[3] + table[4]);
  }
};

// sums[0][..], sums[1][..] += the two sums of Op over one strip of so many periods.
template <class Op, bool kOneConstant, bool kOneSum, class E>
void reduce_strip(const E* const* in, int64_t stride, int64_t rows, const typename Strip<E>::Scalar* tables,
                  int64_t tables_period, double* sums, int64_t period) {
  using P = Strip<E>;
  typename P::Vector table[P::kVectors][Op::kTables], first[P::kVectors] = {}, second[P::kVectors] = {};
  for (int v = 0; v < P::kVectors; ++v) {
    for (int t = 0; t < Op::kTables; ++t) table[v][t] = constants<kOneConstant, P>(tables + t * tables_period, v);
  }
  for (int64_t x = 0; x < rows * stride; x += stride) {
#pragma GCC unroll 4
    for (int v = 0; v < P::kVectors; ++v) {
      typename P::Vector values[Op::kInputs];
      for (int i = 0; i < Op::kInputs; ++i) values[i] = P::load(in[i] + x, v);
      Op::add(values, table[v], first[v], second[v]);
    }
  }
  add_strip<kOneSum, P>(sums, first);
  add_strip<kOneSum, P>(sums + period, second);
}

// The strip that the run ends in. Constants of 0 beyond its end make the terms there 0.
template <class Op, bool kOne, class E>
void reduce_rest(const E* const* in, int64_t count, const typename Strip<E>::Scalar* tables, double* sums,
                 int64_t period) {
  using P = Strip<E>;
  E rest[Op::kInputs][P::kLength] = {};
  const E* at[Op::kInputs];
  typename P::Scalar kept[Op::kTables][P::kLength] = {};
  for (int i = 0; i < Op::kInputs; ++i) {
    std::memcpy(rest[i], in[i], count * sizeof(E));
    at[i] = rest[i];
  }
  for (int t = 0; t < Op::kTables; ++t) {
    for (int64_t i = 0; i < count; ++i) kept[t][P::place_of(i)] = tables[t * period + (kOne ? 0 : P::place_of(i))];
  }
  reduce_strip<Op, false, kOne>(at, P::kLength, 1, kept[0], P::kLength, sums, period);
}

template <class Op, bool kOne, class E>
void reduce_run(const E* const* in, const typename Strip<E>::Scalar* tables, int64_t period, int64_t n, double* sums) {
  using P = Strip<E>;
  const E* at[Op::kInputs];
  const auto move_to = [&](int64_t x) {
    for (int i = 0; i < Op::kInputs; ++i) at[i] = in[i] + x;
  };
  const int64_t stride = kOne ? P::kLength : period, whole = n - n % stride;
  const int64_t rows = std::clamp<int64_t>(kBlockBytes / (stride * int64_t{sizeof(E)}), 1, kMostRows);
  for (int64_t block = 0; block < whole; block += rows * stride) {
    for (int64_t strip = 0; strip < stride; strip += P::kLength) {
      move_to(block + strip);
      reduce_strip<Op, kOne, kOne>(at, stride, std::min(rows, (whole - block) / stride), tables + strip, period,
                                   sums + strip, period);
    }
  }
  for (int64_t strip = 0; strip < n - whole; strip += P::kLength) {
    move_to(whole + strip);
    reduce_rest<Op, kOne>(at, std::min(P::kLength, n - whole - strip), tables + strip, sums + strip, period);
  }
}

template <class Op, bool kOne, class E>
inline void map_step(const E* const* in, const typename Strip<E>::Scalar* tables, int64_t period, E* out) {
  using P = Strip<E>;
  typename P::Vector results[P::S::kPhases];
#pragma GCC unroll 2
  for (int v = 0; v < P::S::kPhases; ++v) {
    typename P::Vector values[Op::kInputs], table[Op::kTables];
    for (int i = 0; i < Op::kInputs; ++i) values[i] = P::load(in[i], v);
    for (int t = 0; t < Op::kTables; ++t) table[t] = constants<kOne, P>(tables + t * period, v);
    results[v] = Op::of(values, table);
  }
  P::S::store(results, out);
}

// out[x] = Op of what stands at x.
template <class Op, bool kOne, class E>
void map_run(const E* const* in, const typename Strip<E>::Scalar* tables, int64_t period, int64_t n, E* out) {
  constexpr int64_t kStep = Strip<E>::S::kStep;
  const E* at[Op::kInputs];
  const int64_t row_length = kOne ? n : period;
  for (int64_t row = 0; row < n; row += row_length) {
    const int64_t length = std::min(row_length, n - row), whole = length - length % kStep;
    for (int64_t x = 0; x < whole; x += kStep) {
      for (int i = 0; i < Op::kInputs; ++i) at[i] = in[i] + row + x;
      map_step<Op, kOne>(at, tables + (kOne ? 0 : x), period, out + row + x);
    }
    if (whole == length) continue;
    E rest[Op::kInputs][kStep] = {}, result[kStep];
    for (int i = 0; i < Op::kInputs; ++i) {
      std::memcpy(rest[i], in[i] + row + whole, (length - whole) * sizeof(E));
      at[i] = rest[i];
    }
    map_step<Op, kOne>(at, tables + (kOne ? 0 : whole), period, result);
    std::memcpy(out + row + whole, result, (length - whole) * sizeof(E));
  }
}

// visit(an element of the type, whether there is one channel only)
template <class Visit>
void by_type(Type type, int64_t period, Visit visit) {
  const auto either = [&](auto element) {
    return period == 1 ? visit(element, std::true_type{}) : visit(element, std::false_type{});
  };
  switch (type) {
    case Type::kFloat:
      return either(float{});
    case Type::kDouble:
      return either(double{});
    case Type::kBFloat16:
      return either(BFloat16{});
    case Type::kHalf:
      return either(Half{});
  }
}

template <class Op>
void reduce(Type type, const void* const* in, const void* tables, int64_t period, int64_t n, double* sums) {
  by_type(type, period, [&](auto element, auto one) {
    using E = decltype(element);
    const E* from[Op::kInputs];
    for (int i = 0; i < Op::kInputs; ++i) from[i] = static_cast<const E*>(in[i]);
    reduce_run<Op, one.value>(from, static_cast<const typename Strip<E>::Scalar*>(tables), period, n, sums);
  });
}

template <class Op>
void map(Type type, const void* const* in, const void* tables, int64_t period, int64_t n, void* out) {
  by_type(type, period, [&](auto element, auto one) {
    using E = decltype(element);
    const E* from[Op::kInputs];
    for (int i = 0; i < Op::kInputs; ++i) from[i] = static_cast<const E*>(in[i]);
    const auto* constants = static_cast<const typename Strip<E>::Scalar*>(tables);
    map_run<Op, one.value>(from, constants, period, n, static_cast<E*>(out));
  });
}

}  // namespace
}  // namespace gmd::cpu
