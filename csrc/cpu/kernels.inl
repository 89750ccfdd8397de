// The kernels once, for the vector width that the including file sets:
//   GMD_ISA           name of the instruction set, a string
//   GMD_KERNELS       name of the table that this makes
//   GMD_VECTOR_BYTES  width of a vector register
//   GMD_TILE          objectives on a side of a tile: GMD_TILE^2 + GMD_TILE + 1 vectors must fit the registers
//   GMD_LOAD(p)       GMD_VECTOR_BYTES / 8 floats at p, as doubles
// Written in the vector extensions of GCC and Clang, so that one text becomes SSE2, NEON, AVX2 or AVX-512.

namespace gmd::cpu {
namespace {

constexpr int kLanes = GMD_VECTOR_BYTES / 8;  // float64 lanes
constexpr int kTile = GMD_TILE;
constexpr int64_t kChunk =
    512;  // elements of each row that stay in the first-level cache while all tiles pass over them

typedef float Floats __attribute__((vector_size(GMD_VECTOR_BYTES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(GMD_VECTOR_BYTES)));

inline Doubles load(const float* p) { return GMD_LOAD(p); }  // the compilers' own conversion is slower

inline double sum(Doubles v) {
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += v[lane];
  return total;
}

// Rows whose next chunk a tile asks for while it computes, so that the memory bus never idles.
struct Ahead {
  const float* const* rows;
  int count;
};

// products[i][j] += <a_i, b_j> over n elements, I x J inner products in registers; on the diagonal (a == b) only j >=
// i.
template <int I, int J, bool kDiagonal>
void tile(const float* const* a, const float* const* b, int64_t n, Ahead ahead, double* products, int t) {
  Doubles acc[I][J] = {};
  int64_t x = 0;
  for (; x + kLanes <= n; x += kLanes) {
    for (int r = 0; r < ahead.count; ++r) __builtin_prefetch(ahead.rows[r] + x + kChunk);
    Doubles left[I];
#pragma GCC unroll 8
    for (int i = 0; i < I; ++i) left[i] = load(a[i] + x);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      const Doubles right = kDiagonal ? left[j] : load(b[j] + x);
#pragma GCC unroll 8
      for (int i = 0; i < (kDiagonal ? j + 1 : I); ++i) acc[i][j] += left[i] * right;
    }
  }
  for (int j = 0; j < J; ++j) {
    for (int i = 0; i < (kDiagonal ? j + 1 : I); ++i) {
      double total = sum(acc[i][j]);
      for (int64_t rest = x; rest < n; ++rest) total += double(a[i][rest]) * double(b[j][rest]);
      products[i * t + j] += total;
    }
  }
}

using Tile = void (*)(const float* const*, const float* const*, int64_t, Ahead, double*, int);

template <int I, int J = kTile>
constexpr Tile choose(int i, int j) {
  if constexpr (I == 0) {
    return nullptr;
  } else if constexpr (J == 0) {
    return choose<I - 1>(i, j);
  } else {
    return i == I && j == J ? tile<I, J, false> : choose<I, J - 1>(i, j);
  }
}

template <int I>
constexpr Tile choose_diagonal(int i) {
  if constexpr (I == 0) {
    return nullptr;
  } else {
    return i == I ? tile<I, I, true> : choose_diagonal<I - 1>(i);
  }
}

void gram(const float* const* rows, int t, int64_t n, double* products) {
  const int blocks = (t + kTile - 1) / kTile, tiles = blocks * (blocks + 1) / 2;
  const float* at[kMaxObjectives];
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t length = n - begin < kChunk ? n - begin : kChunk;
    for (int k = 0; k < t; ++k) at[k] = rows[k] + begin;
    int done = 0;
    const auto share = [&] {
      const int first = done * t / tiles, last = ++done * t / tiles;
      return Ahead{at + first, last - first};
    };
    for (int i = 0; i < t; i += kTile) {
      const int height = t - i < kTile ? t - i : kTile;
      choose_diagonal<kTile>(height)(at + i, at + i, length, share(), products + i * t + i, t);
      for (int j = i + kTile; j < t; j += kTile) {
        const int width = t - j < kTile ? t - j : kTile;
        choose<kTile>(height, width)(at + i, at + j, length, share(), products + i * t + j, t);
      }
    }
  }
}

// A strip of four vectors of `out` stays in registers while all rows pass over it: each row is read once, out is
// written once, and only after every row of the strip was read, so that out may be one of the rows.
void combine(const float* const* rows, const float* weights, int t, int64_t n, float* out) {
  constexpr int kStrip = 4, kWide = GMD_VECTOR_BYTES / 4;
  int64_t x = 0;
  for (; x + kStrip * kWide <= n; x += kStrip * kWide) {
    Floats acc[kStrip] = {};
    for (int k = 0; k < t; ++k) {
      const Floats* row = reinterpret_cast<const Floats*>(rows[k] + x);
#pragma GCC unroll 4
      for (int s = 0; s < kStrip; ++s) acc[s] += weights[k] * row[s];
    }
#pragma GCC unroll 4
    for (int s = 0; s < kStrip; ++s) reinterpret_cast<Floats*>(out + x)[s] = acc[s];
  }
  for (; x < n; ++x) {
    float acc = 0;
    for (int k = 0; k < t; ++k) acc += weights[k] * rows[k][x];
    out[x] = acc;
  }
}

}  // namespace

const Kernels GMD_KERNELS = {GMD_ISA, gram, combine};

}  // namespace gmd::cpu
