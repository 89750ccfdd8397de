// The Gramian of one segment: tiles of inner products in registers, chunk by chunk.

namespace gmd::cpu {
namespace {

constexpr int kTile = GMD_TILE;
constexpr int kChunkBytes = 32 * GMD_VECTOR_BYTES;  // of each row, that stay in the first-level cache under all tiles
constexpr int kExactUpTo = 4;  // objectives in float32; so many exact products take no longer than reading does

// How a tile multiplies elements of type E.

// Products and the sums of one chunk in float32, everything beyond in float64. Those of 16-bit elements are exact.
template <class E>
using Blocks = Spread<E>;

// Products and sums in float64, products exact unless the elements are float64.
template <class E>
struct Exact {
  using Vector = Doubles;
  static constexpr int kPhases = 1;
  static constexpr int64_t kStep = kLanes;
  static Vector load(const float* p, int) { return widen_floats(p); }
  static Vector load(const double* p, int) { return cpu::load(p); }
  static Vector load(const BFloat16* p, int) {
    float widened[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) widened[lane] = float_of(p[lane]);
    return widen_floats(widened);
  }
};

// Memory that a tile asks for while it computes, three lines at a time, so that the bus never idles. A line that is
// asked for twice, or beyond the end, costs next to nothing.
struct Ahead {
  const char* at[3];
  int64_t step;  // bytes, for each step of the tile
};

// The next chunk of every row, shared out among the tiles of this one.
struct Next {
  const void* const* rows;  // [t]
  int t;
  int64_t offset;  // bytes from the rows to their next chunk
  int64_t step;    // bytes, of a step of a tile
  int tiles = 0, done = 0;

  Ahead share() {
    const int first = done * t / tiles, last = std::max(first, ++done * t / tiles - 1);
    const auto line = [&](int k) { return static_cast<const char*>(rows[std::min(k, last)]) + offset; };
    return {{line(first), line(first + 1), line(first + 2)}, step};
  }
};

inline void add_to(double* sums, Doubles v) { store_vector(load_vector<Doubles>(sums) + v, sums); }
inline void add_to(double* sums, Floats v) { add_to(sums, fold(v)); }

// Whether no product of the chunk was lost to underflow or overflow, from the sums of squares of its rows: those are
// far enough from both ends of float32, or the row is nothing but zeros. NaN is never safe.
template <class E>
bool safe_in_float(const Floats* squares, const E* const* rows, int count, int64_t n) {
  constexpr float kLow = 0x1p-60f, kHigh = 0x1p100f;
  auto safe = squares[0] == squares[0];
  for (int i = 0; i < count; ++i) safe &= (squares[i] >= kLow) & (squares[i] <= kHigh);
  int lanes[kWide], all = -1;
  store_vector(safe, lanes);
  for (int lane = 0; lane < kWide; ++lane) all &= lanes[lane];
  if (all) return true;  // nearly always: every lane of every row is safe
  for (int i = 0; i < count; ++i) {
    float total = 0;
    for (int lane = 0; lane < kWide; ++lane) total += squares[i][lane];
    if (total >= kLow && total <= kHigh) continue;
    if (!std::all_of(rows[i], rows[i] + n, [](E x) { return float_of(x) == 0; })) return false;
  }
  return true;
}

// Where the sums of a tile go: to those of its objectives' pairs.
struct Sums {
  const int *rows, *columns;
  double* data;
  double* at(int i, int j) const { return data + pair_index(rows[i], columns[j]) * kLanes; }
};

// sums(i, j) += <a_i, b_j> over n elements, I x J inner products in registers; on the diagonal (a == b) only i <= j.
// False, and nothing added, if float32 cannot hold the products; a tile off the diagonal is as safe as its two on it.
template <template <class> class P, class E, int I, int J, bool kDiagonal>
bool tile(const E* const* a, const E* const* b, int64_t n, Ahead ahead, Sums sums) {
  typename P<E>::Vector acc[I][J] = {}, left[I];
  for (int64_t x = 0; x < n; x += P<E>::kStep) {
    for (const char*& line : ahead.at) {
      __builtin_prefetch(line);
      line += ahead.step;
    }
#pragma GCC unroll 2
    for (int phase = 0; phase < P<E>::kPhases; ++phase) {
#pragma GCC unroll 8
      for (int i = 0; i < I; ++i) left[i] = P<E>::load(a[i] + x, phase);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        const auto right = kDiagonal ? left[j] : P<E>::load(b[j] + x, phase);
#pragma GCC unroll 8
        for (int i = 0; i < (kDiagonal ? j + 1 : I); ++i) acc[i][j] += left[i] * right;
      }
    }
  }
  // float16 is safe: its squares lie between 2^-48 and 2^32
  if constexpr (kDiagonal && std::is_same_v<P<E>, Blocks<E>> && !std::is_same_v<E, Half>) {
    Floats squares[I];
#pragma GCC unroll 8
    for (int i = 0; i < I; ++i) squares[i] = acc[i][i];
    if (!safe_in_float(squares, a, I, n)) return false;
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < (kDiagonal ? j + 1 : I); ++i) add_to(sums.at(i, j), acc[i][j]);
  }
  return true;
}

template <class E>
using Tile = bool (*)(const E* const*, const E* const*, int64_t, Ahead, Sums);

template <template <class> class P, class E, int... S>
Tile<E> choose(int height, int width, std::integer_sequence<int, S...>) {
  static constexpr Tile<E> tiles[] = {tile<P, E, S / kTile + 1, S % kTile + 1, false>...};
  return tiles[(height - 1) * kTile + width - 1];
}

template <template <class> class P, class E, int... S>
Tile<E> choose_diagonal(int height, std::integer_sequence<int, S...>) {
  static constexpr Tile<E> tiles[] = {tile<P, E, S + 1, S + 1, true>...};
  return tiles[height - 1];
}

// One chunk: the tiles on the diagonal first, since they tell which objectives float32 is too narrow for.
template <template <class> class P, template <class> class Fallback, class E>
void gram_chunk(const E* const* rows, const int* objectives, int t, int64_t n, Next next, double* sums) {
  constexpr auto kSides = std::make_integer_sequence<int, kTile>{};
  constexpr auto kShapes = std::make_integer_sequence<int, kTile * kTile>{};
  const int blocks = (t + kTile - 1) / kTile;
  const auto begin = [&](int block) { return block * t / blocks; };
  next.tiles = blocks * (blocks + 1) / 2;
  bool wide[kMaxObjectives];
  for (int p = 0; p < blocks; ++p) {
    const int i = begin(p), height = begin(p + 1) - i;
    const Sums to{objectives + i, objectives + i, sums};
    const Ahead ahead = next.share();
    wide[p] = !choose_diagonal<P, E>(height, kSides)(rows + i, rows + i, n, ahead, to);
    if (wide[p]) choose_diagonal<Fallback, E>(height, kSides)(rows + i, rows + i, n, ahead, to);
  }
  for (int p = 0; p < blocks; ++p) {
    const int i = begin(p), height = begin(p + 1) - i;
    for (int q = p + 1; q < blocks; ++q) {
      const int j = begin(q), width = begin(q + 1) - j;
      const bool narrow = !wide[p] && !wide[q];
      const auto product = narrow ? choose<P, E>(height, width, kShapes) : choose<Fallback, E>(height, width, kShapes);
      product(rows + i, rows + j, n, next.share(), {objectives + i, objectives + j, sums});
    }
  }
}

template <template <class> class P, template <class> class Fallback, class E>
void gram_rows(const void* const* rows, const int* objectives, int t, int64_t n, double* sums) {
  constexpr int64_t kChunk = kChunkBytes / sizeof(E), kStep = P<E>::kStep;
  const E* at[kMaxObjectives];
  const int64_t whole = n - n % kStep;
  for (int64_t begin = 0; begin < whole; begin += kChunk) {
    for (int k = 0; k < t; ++k) at[k] = static_cast<const E*>(rows[k]) + begin;
    const Next next{rows, t, (begin + kChunk) * int64_t{sizeof(E)}, kStep * int64_t{sizeof(E)}};
    gram_chunk<P, Fallback>(at, objectives, t, std::min(kChunk, whole - begin), next, sums);
  }
  if (whole == n) return;
  E rest[kMaxObjectives][kStep];
  for (int k = 0; k < t; ++k) {
    std::memset(rest[k], 0, sizeof rest[k]);
    std::memcpy(rest[k], static_cast<const E*>(rows[k]) + whole, (n - whole) * sizeof(E));
    at[k] = rest[k];
  }
  gram_chunk<P, Fallback>(at, objectives, t, kStep, Next{rows, t, 0, 0}, sums);
}

void gram(Type type, const void* const* rows, const int* objectives, int t, int64_t n, double* sums) {
  switch (type) {
    case Type::kFloat:
      return (t <= kExactUpTo ? gram_rows<Exact, Exact, float> : gram_rows<Blocks, Exact, float>)(rows, objectives, t,
                                                                                                  n, sums);
    case Type::kDouble:
      return gram_rows<Exact, Exact, double>(rows, objectives, t, n, sums);
    case Type::kBFloat16:
      return gram_rows<Blocks, Exact, BFloat16>(rows, objectives, t, n, sums);
    case Type::kHalf:
      return gram_rows<Blocks, Blocks, Half>(rows, objectives, t, n, sums);
  }
}

}  // namespace
}  // namespace gmd::cpu
