// Inner products of rows of 16-bit numbers on the tensor cores, within one warp.
//
// These multiply 16 slots with 8 over 16 elements, and what a lane has of the slots as the left factor it has of them
// as the right one too. So a lane loads 16 bytes of slots lane / 4 and lane / 4 + 8, four lanes side by side a chunk of
// 64 bytes, and nothing has to change places: the elements of a sum may come in any order, the same for all rows. R
// rows, a power of two, take R slots; the others hold the same rows' next chunks, so that all lanes have something to
// load.
//
// Errors. What is known of tensor cores is in tests/helpers/cuda/tensor_core.cpp: sums are cut off, not rounded. Of a
// product over 16 elements that is at most 19 u sum |x y|, u = 2^-24: in each of two blocks of 8 a product or the sum
// so far is the largest, eight others lose up to u of it (the first sum, zero, does not), and float32 cuts off 2 u.
// Sums of four such products are rounded, twice on the way: 21 u in all, and float64 beyond. Chains of products would
// lose 20 u more with each. The bound holds but for subnormal numbers, whose exponents are those of larger ones: see
// Sizes.
#pragma once

#include "exact.cuh"

namespace gmd::cuda {

constexpr int kSlots = 16;
constexpr int kChunkBytes = 4 * kVectorBytes;
constexpr int kChunks = kUnitBytes / kChunkBytes;  // of a unit
constexpr int kLoads = 8;        // of each of a lane's two slots in a turn: as many as the R rows of 16 / R units are
constexpr int kTensorTurns = 8;  // of a window

// Which numbers the rows of a window have, as their sums of squares tell; one or more of these.
//
// Of float16, every product of two subnormal numbers is exact, and so is their sum. Beside larger numbers a row of
// tiny ones could lose more than 64 u: one whose squares add up to less than 2^-31 for 16 elements, 2^-27 for a unit.
// With larger ones the claimed exponents, of 2^-14 at least, are at most 3 times what Cauchy and Schwarz allow for.
enum Sizes : int { kTiny = 1, kOrdinary = 2, kBeyond = 4 };
__device__ inline bool can_multiply(int sizes) { return !(sizes & kBeyond) && sizes != (kTiny | kOrdinary); }

// Where a row's vector is kept: chunks of neighbouring rows in banks of their own, since lanes store these together.
__device__ inline int kept_vector(int row, int vector) { return vector ^ (4 * (row % 2)); }

// Rows [first, last) of a window as a lane has them in its slots, turn after turn. kFull: 16 slots of 16 rows, of which
// the compiler then knows where everything is; else 2^shift rows.
template <Type E, bool kFull>
struct Slots {
  const Rows& rows;
  const Window window;
  const int shift, quarter;  // of a chunk
  const int slot, count;     // of a Keep, where the window begins, and how many a unit takes
  const char* begin[2];      // of the lane's vectors in the turn's first chunk of its slots' rows
  int row[2], chunk[2];      // its slots' rows, and first chunks
  bool there[2];             // whether there is such a row
  int turn = 0;              // its first unit, in the window

  __device__ Slots(const Rows& rows, int first, int last, const Window& window, int shift, int lane)
      : rows(rows), window(window), shift(shift), quarter(lane % 4), slot(rows.slot), count(rows.parameter.count) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int place = lane / 4 + 8 * h;
      row[h] = kFull ? place : place & ((1 << shift) - 1);
      chunk[h] = kFull ? 0 : place >> shift;
      there[h] = row[h] < last - first;
      begin[h] = (there[h] ? rows.data[first + row[h]] : nullptr) + window.first * kUnitBytes + kVectorBytes * quarter;
    }
  }

  __device__ int units() const { return kFull ? 1 : kSlots >> shift; }  // of a turn
  __device__ void next() {
    turn += units();
    begin[0] += units() * window.step * kUnitBytes;
    begin[1] += units() * window.step * kUnitBytes;
  }

  // Load i of slot h: the unit in the turn, and the chunk there.
  __device__ int unit_of(int i, int h) const { return kFull ? 0 : (i * (kSlots >> shift) + chunk[h]) / kChunks; }
  __device__ int chunk_of(int i, int h) const { return kFull ? i : (i * (kSlots >> shift) + chunk[h]) % kChunks; }
  __device__ bool is_there(int i, int h) const { return there[h] && (kFull || turn + unit_of(i, h) < window.units); }

  // Whether all units of the turn can be loaded in vectors.
  __device__ bool whole() const {
    const int last = min(turn + units(), window.units) - 1;
    return rows.parameter.aligned && (window.unit(last) + 1) * unit_elements(E) <= rows.parameter.numel;
  }

  template <bool kWhole>
  __device__ uint4 load(int i, int h) const {
    if (!is_there(i, h)) return {0, 0, 0, 0};
    const char* unit = begin[h] + unit_of(i, h) * window.step * kUnitBytes;
    if constexpr (kWhole) return load_vector(unit + kChunkBytes * chunk_of(i, h));
    const int64_t left = rows.parameter.numel - window.unit(turn + unit_of(i, h)) * unit_elements(E);
    if (rows.parameter.aligned && left >= unit_elements(E)) return load_vector(unit + kChunkBytes * chunk_of(i, h));
    const int there = static_cast<int>(min(int64_t{unit_elements(E)}, left));
    return gather<E>(unit - kVectorBytes * quarter, 4 * chunk_of(i, h) + quarter, there);
  }

  __device__ void keep(const Keep& keep, int i, int h, const uint4& v) const {
    const int to = slot + (turn + unit_of(i, h)) * count + row[h];
    if (is_there(i, h) && keep.has(to)) keep.at(to, kept_vector(row[h], 4 * chunk_of(i, h) + quarter)) = v;
  }
};

template <Type E>
__device__ inline void multiply_slots(float* d, const uint4& a, const uint4& b) {
  multiply_matrices<E>(d, a, {b.x, b.z});
  multiply_matrices<E>(d + 4, a, {b.y, b.w});
}

// acc += products over 64 elements of each slot: two vectors of each lane's two.
template <Type E>
__device__ inline void multiply_vectors(const uint4 (*a)[2], const uint4 (*b)[2], double (&acc)[8]) {
  float sums[2][8];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float first[8], second[8];
    multiply_slots<E>(first, {a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y},
                      {b[i][0].x, b[i][1].x, b[i][0].y, b[i][1].y});
    multiply_slots<E>(second, {a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w},
                      {b[i][0].z, b[i][1].z, b[i][0].w, b[i][1].w});
#pragma unroll
    for (int s = 0; s < 8; ++s) sums[i][s] = first[s] + second[s];
  }
#pragma unroll
  for (int s = 0; s < 8; ++s) acc[s] += static_cast<double>(sums[0][s] + sums[1][s]);
}

// The slot of row and column of number s of an accumulator.
__device__ inline int row_of(int s, int lane) { return lane / 4 + 8 * (s / 2 % 2); }
__device__ inline int column_of(int s, int lane) { return 2 * (lane % 4) + s % 2 + 8 * (s / 4); }

// Of the products of slots with themselves: those below the diagonal, whichever the lane.
GMD_BOTH constexpr bool is_mirrored(int s) { return s == 2 || s == 3; }

// acc += the products of a turn's slots.
template <Type E, bool kFull>
__device__ inline void multiply_turn(const Slots<E, kFull>& slots, const Keep& keep, double (&acc)[8]) {
  if (slots.whole()) {
    uint4 v[kLoads][2];
#pragma unroll
    for (int i = 0; i < 2 * kLoads; ++i) v[i / 2][i % 2] = slots.template load<true>(i / 2, i % 2);
#pragma unroll
    for (int i = 0; i < 2 * kLoads; ++i) slots.keep(keep, i / 2, i % 2, v[i / 2][i % 2]);
#pragma unroll
    for (int i = 0; i < kLoads; i += 2) multiply_vectors<E>(v + i, v + i, acc);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kLoads; i += 2) {
    uint4 v[2][2];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j / 2][j % 2] = slots.template load<false>(i + j / 2, j % 2);
#pragma unroll
    for (int j = 0; j < 4; ++j) slots.keep(keep, i + j / 2, j % 2, v[j / 2][j % 2]);
    multiply_vectors<E>(v, v, acc);
  }
}

// Of fewer than 16 rows, each pair has its products in several places: all of them to where i and j are slots of rows.
__device__ inline void add_up_chunks(double (&acc)[8], int shift) {
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    acc[s] += acc[6 + s];
    if (shift <= 2) acc[s] += __shfl_xor_sync(kAllLanes, acc[s], 4 * 4 + 2);
    if (shift <= 1) acc[s] += __shfl_xor_sync(kAllLanes, acc[s], 4 * 2 + 1);
  }
  if (shift == 0) acc[0] += __shfl_xor_sync(kAllLanes, acc[1], 4);
}

// The Sizes of rows [first, last).
template <Type E>
__device__ inline int sizes_of(const double (&acc)[8], const Rows& rows, int first, int last, const Window& window,
                               int lane) {
  uint32_t found = 0;  // Sizes, and a bit for each doubtful row
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int j = column_of(s, lane);
    if (is_mirrored(s) || row_of(s, lane) != j || first + j >= last) continue;
    if (is_safe(acc[s])) {
      found |= E == Type::kHalf && acc[s] < 0x1p-27 * window.units ? kTiny : kOrdinary;
    } else if (E == Type::kBFloat16) {
      found |= 8u << j;
    } else if (acc[s] != 0) {
      found |= kBeyond;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) found |= __shfl_xor_sync(kAllLanes, found, offset);
  for (int k = first; found >= 8 && k < last; ++k) {
    if ((found >> (3 + k - first) & 1) && !is_zero<E>(rows, k, window, lane)) return kBeyond;
  }
  return found & (kTiny | kOrdinary | kBeyond);
}

// Adds the products of all pairs of rows [first, last), at most 2^shift, which is at most 16; nothing, if the tensor
// cores cannot hold them. Returns the rows' Sizes.
template <Type E, bool kFull>
__device__ inline int add_slots(const Rows& rows, int first, int last, int shift, const Window& window, double* to,
                                const Keep& keep, int lane) {
  lane = forget(lane);
  double acc[8] = {};
  Slots<E, kFull> slots(rows, first, last, window, shift, lane);
#pragma unroll 1
  for (; slots.turn < window.units; slots.next()) multiply_turn(slots, keep, acc);
  if (!kFull) add_up_chunks(acc, shift);
  const int sizes = sizes_of<E>(acc, rows, first, last, window, lane);
  if (!can_multiply(sizes)) return sizes;
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int i = row_of(s, lane), j = column_of(s, lane);
    if (!is_mirrored(s) && i <= j && first + j < last) pair_sum(to, rows, first + i, first + j) += acc[s];
  }
  __syncwarp();
  return sizes;
}

template <Type E>
__device__ inline int add_on_tensor_cores(const Rows& rows, int first, int last, const Window& window, double* to,
                                          const Keep& keep, int lane) {
  const int shift = shift_of_rows(last - first);
  return shift == 4 ? add_slots<E, true>(rows, first, last, shift, window, to, keep, lane)
                    : add_slots<E, false>(rows, first, last, shift, window, to, keep, lane);
}

// acc += the products of vectors i .. i + kCount of the slots of two parts.
template <bool kWhole, int kCount, Type E>
__device__ inline void multiply_parts(const Slots<E, true>& left, const Slots<E, true>& right, int i,
                                      double (&acc)[8]) {
  uint4 a[kCount][2], b[kCount][2];
#pragma unroll
  for (int j = 0; j < 2 * kCount; ++j) a[j / 2][j % 2] = left.template load<kWhole>(i + j / 2, j % 2);
  if constexpr (!kWhole) __syncwarp();  // of single elements fewer loads at a time: each takes an address
#pragma unroll
  for (int j = 0; j < 2 * kCount; ++j) b[j / 2][j % 2] = right.template load<kWhole>(i + j / 2, j % 2);
#pragma unroll
  for (int j = 0; j < kCount; j += 2) multiply_vectors<E>(a + j, b + j, acc);
}

// Adds the products of up to 16 rows from p on with up to 16 from q on, p < q, of a window of one unit; the Sizes of
// all of them together have to be such that it can.
template <Type E>
__device__ inline void add_rectangle_on_tensor_cores(const Rows& rows, int p, int p_end, int q, int q_end,
                                                     const Window& window, double* to, int lane) {
  lane = forget(lane);
  double acc[8] = {};
  const Slots<E, true> left(rows, p, p_end, window, 4, lane), right(rows, q, q_end, window, 4, lane);
  if (left.whole()) {
#pragma unroll 1
    for (int i = 0; i < kLoads; i += 4) multiply_parts<true, 4>(left, right, i, acc);
  } else {
#pragma unroll 1
    for (int i = 0; i < kLoads; i += 2) multiply_parts<false, 2>(left, right, i, acc);
  }
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int i = p + row_of(s, lane), j = q + column_of(s, lane);
    if (i < p_end && j < q_end) pair_sum(to, rows, i, j) += acc[s];
  }
}

}  // namespace gmd::cuda
