// A few rows from the left times a block of the projector's rows, which have lost their part of a rank-one matrix just
// before. A block comes in panels of two vectors; the sums of a panel stay in registers while its rows pass.

namespace gmd::cpu {
namespace {

constexpr int kOwmVectors = 2;                              // of a panel
constexpr int kMostLeft = GMD_VECTOR_BYTES == 64 ? 12 : 6;  // rows from the left whose sums fit the registers

template <class Scalar>
struct Panel {
  using Vector = std::conditional_t<std::is_same_v<Scalar, double>, Doubles, Floats>;
  static constexpr int64_t kWidth = sizeof(Vector) / sizeof(Scalar), kColumns = kOwmVectors * kWidth;

  const Scalar* rows;  // in the panel's columns
  int64_t stride;      // from one row to the next
  int64_t count;       // of rows
};

// sums[c][..] += left[c][i] * row i, for kCount rows from the left.
template <int kCount, class Scalar>
void multiply_panel(const Panel<Scalar>& panel, const Scalar* left, int64_t left_stride, Scalar* sums,
                    int64_t sums_stride) {
  using P = Panel<Scalar>;
  using Vector = typename P::Vector;
  Vector acc[kCount][kOwmVectors] = {};
  for (int64_t i = 0; i < panel.count; ++i) {
    Vector row[kOwmVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kOwmVectors; ++v) row[v] = load_vector<Vector>(panel.rows + i * panel.stride + v * P::kWidth);
#pragma GCC unroll 12
    for (int c = 0; c < kCount; ++c) {
#pragma GCC unroll 2
      for (int v = 0; v < kOwmVectors; ++v) acc[c][v] += left[c * left_stride + i] * row[v];
    }
  }
#pragma GCC unroll 12
  for (int c = 0; c < kCount; ++c) {
#pragma GCC unroll 2
    for (int v = 0; v < kOwmVectors; ++v) {
      Scalar* at = sums + c * sums_stride + v * P::kWidth;
      store_vector(load_vector<Vector>(at) + acc[c][v], at);
    }
  }
}

template <int kCount, class Scalar, class... Rest>
void multiply_count(int64_t count, Rest... rest) {
  if (count == kCount) return multiply_panel<kCount, Scalar>(rest...);
  if constexpr (kCount > 1) multiply_count<kCount - 1, Scalar>(count, rest...);
}

template <class Scalar>
void multiply(const Panel<Scalar>& panel, const Scalar* left, int64_t left_stride, int64_t count, Scalar* sums,
              int64_t sums_stride) {
  const int64_t parts = (count + kMostLeft - 1) / kMostLeft;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    multiply_count<kMostLeft, Scalar>(end - begin, panel, left + begin * left_stride, left_stride,
                                      sums + begin * sums_stride, sums_stride);
  }
}

// row[j] -= factor * along[j]. Entries (i, j) and (j, i) of the projector come out of one operation on the same
// numbers, wherever in a row they are: they have the same bits.
template <class Scalar>
void take_away(Scalar factor, const Scalar* along, int64_t length, Scalar* row) {
  using Vector = typename Panel<Scalar>::Vector;
  constexpr int64_t kWidth = Panel<Scalar>::kWidth;
  int64_t j = 0;
  for (; j + kWidth <= length; j += kWidth) {
    store_vector(load_vector<Vector>(row + j) - factor * load_vector<Vector>(along + j), row + j);
  }
  Scalar few[2][kWidth] = {};
  std::memcpy(few[0], row + j, (length - j) * sizeof(Scalar));
  std::memcpy(few[1], along + j, (length - j) * sizeof(Scalar));
  store_vector(load_vector<Vector>(few[0]) - factor * load_vector<Vector>(few[1]), few[0]);
  std::memcpy(row + j, few[0], (length - j) * sizeof(Scalar));
}

// Copies rows of `length` elements out of or into some that are longer.
template <class Scalar>
void move_rows(const Scalar* from, int64_t from_stride, Scalar* to, int64_t to_stride, int64_t rows, int64_t length) {
  for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, length * sizeof(Scalar));
}

template <class Scalar>
void owm_block(const OwmBlock& block) {
  constexpr int64_t kColumns = Panel<Scalar>::kColumns;
  const int64_t d = block.d;
  Scalar* rows = static_cast<Scalar*>(block.projector) + block.first * d;
  const Scalar *left = static_cast<const Scalar*>(block.left) + block.first,
               *step = static_cast<const Scalar*>(block.step);
  Scalar* sums = static_cast<Scalar*>(block.sums);
  for (int64_t i = 0; step != nullptr && i < block.rows; ++i) {
    take_away(step[block.first + i], step + block.begin, block.end - block.begin, rows + i * d + block.begin);
  }
  int64_t j = block.begin;
  for (; j + kColumns <= block.end; j += kColumns) {
    multiply<Scalar>({rows + j, d, block.rows}, left, d, block.count, sums + j, d);
  }
  // a panel that is not full goes through the same kernels, with zeros beside it
  const int64_t length = block.end - j;
  if (length == 0) return;
  Scalar kept[kOwmRows * kColumns] = {};
  move_rows<Scalar>(rows + j, d, kept, kColumns, block.rows, length);
  for (int64_t c = 0; c < block.count; c += kMostLeft) {
    Scalar some[kMostLeft * kColumns] = {};
    const int64_t count = std::min<int64_t>(kMostLeft, block.count - c);
    move_rows<Scalar>(sums + c * d + j, d, some, kColumns, count, length);
    multiply<Scalar>({kept, kColumns, block.rows}, left + c * d, d, count, some, kColumns);
    move_rows<Scalar>(some, kColumns, sums + c * d + j, d, count, length);
  }
}

void owm(Type type, const OwmBlock& block) {
  type == Type::kDouble ? owm_block<double>(block) : owm_block<float>(block);
}

}  // namespace
}  // namespace gmd::cpu
