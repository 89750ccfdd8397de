// Inner products of rows over the units of a window, within one warp.
#pragma once

#include <type_traits>

#include "exact.cuh"

namespace gmd::cuda {

// Rows whose products are computed together, absent ones as zeros; and how many units of so many rows a warp loads at
// once: 16 vectors a lane, 64 registers.
__device__ inline int padded_rows(int count) { return count <= 4 ? 4 : count <= 8 ? 8 : 16; }
GMD_BOTH constexpr int units_at_once(int rows) { return 16 / rows; }

// A window has so few units that the float32 sum of a lane is one of at most 28 products of float32 numbers, or 56 of
// 16-bit ones (which are exact), and then of 5 levels over the lanes.
constexpr int kWindowUnits = 7;
__device__ inline int window_units(int count) {
  const int at_once = units_at_once(padded_rows(count));
  return kWindowUnits / at_once * at_once;
}

// float32 lost none of the products of rows whose sums of squares lie between these: by underflow a product loses at
// most 2^-150, nothing beside 2^-60 even 2^20 times over, and no product or sum is larger than the squares are. NaN
// is not between.
__device__ inline bool is_safe(float square) { return square >= 0x1p-60f && square <= 0x1p100f; }

// Whether the sums of squares among the sums tell that float32 held all products. A row of zeros is held as well.
template <Type E, int N>
__device__ inline bool are_safe(const LaneSum<float> (&sums)[N], const Rows& rows, int first, int last,
                                const Window& window, int lane) {
  uint32_t doubtful = 0;
#pragma unroll
  for (int c = 0; c < N; ++c) {
    const int j = column_of_pair(max(sums[c].index, 0));
    if (sums[c].index == pair_index(j, j) && first + j < last && !is_safe(sums[c].value)) doubtful |= 1u << j;
  }
  if (!__any_sync(kAllLanes, doubtful != 0)) return true;  // nearly always
  for (int offset = 16; offset > 0; offset /= 2) doubtful |= __shfl_xor_sync(kAllLanes, doubtful, offset);
  for (int k = first; k < last; ++k) {
    if ((doubtful >> (k - first) & 1) && !is_zero<E>(rows, k, window, lane)) return false;
  }
  return true;
}

template <Type E, int R, class Sum>
__device__ inline void multiply_element(const uint4 (&v)[R], int e, Sum (&acc)[num_pairs(R)]) {
  Sum x[R];
#pragma unroll
  for (int k = 0; k < R; ++k) x[k] = Elements<E>::get(v[k], e);
#pragma unroll
  for (int j = 0; j < R; ++j) {
#pragma unroll
    for (int i = 0; i <= j; ++i) acc[pair_index(i, j)] += x[i] * x[j];
  }
}

template <int R>
__device__ inline void keep_unit(const uint4 (&v)[R], int count, const Keep& keep, int slot, int lane) {
#pragma unroll
  for (int k = 0; k < R; ++k) {
    if (k < count && keep.has(slot + k)) keep.at(slot + k, lane) = v[k];
  }
}

// Adds the products of all pairs of rows [first, last), at most R; false, and nothing added, if float32 cannot hold
// them. Those of up to 4 rows of float32 numbers are exact, in float64: that takes no longer than reading them.
template <Type E, int R>
__device__ inline bool add_products(const Rows& rows, int first, int last, const Window& window, double* to, Keep keep,
                                    int lane) {
  constexpr bool kExact = R == 4 && E == Type::kFloat;
  constexpr int kAtOnce = units_at_once(R), kPairs = num_pairs(R);
  using Sum = std::conditional_t<kExact, double, float>;
  lane = forget(lane);
  Sum acc[kPairs] = {};
  for (int unit = 0; unit < window.units; unit += kAtOnce) {
    __syncwarp();  // what is in shared memory is read again in each turn: there are no registers to keep it in
    uint4 v[kAtOnce][R];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) load_unit<E, R>(v[u], rows, first, last, window, unit + u, lane);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int count = unit + u < window.units ? last - first : 0;
      keep_unit(v[u], count, keep, rows.slot + (unit + u) * count, lane);
#pragma unroll
      for (int e = 0; e < Elements<E>::kPerVector; ++e) multiply_element<E, R>(v[u], e, acc);
    }
  }
  lane = forget(lane);
  LaneSum<Sum> sums[num_chunks(kPairs)];
  sum_each<kPairs>(acc, lane, sums);
  if constexpr (!kExact) {
    if (!are_safe<E>(sums, rows, first, last, window, lane)) return false;
  }
#pragma unroll
  for (const LaneSum<Sum>& sum : sums) {
    const int j = column_of_pair(max(sum.index, 0)), i = sum.index - pair_index(0, j);
    if (sum.index >= 0 && first + j < last) pair_sum(to, rows, first + i, first + j) += sum.value;
  }
  __syncwarp();
  return true;
}

// Adds the products of up to 8 rows from p on with up to 8 from q on, p < q, all of them safe in float32.
template <Type E>
__device__ inline void add_rectangle(const Rows& rows, int p, int p_end, int q, int q_end, const Window& window,
                                     double* to, int lane) {
  float acc[64] = {};
  for (int unit = 0; unit < window.units; ++unit) {
    uint4 left[8], right[8];
    load_unit<E, 8>(left, rows, p, p_end, window, unit, lane);
    load_unit<E, 8>(right, rows, q, q_end, window, unit, lane);
#pragma unroll
    for (int e = 0; e < Elements<E>::kPerVector; ++e) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          acc[8 * i + j] += Elements<E>::get(left[i], e) * Elements<E>::get(right[j], e);
        }
      }
    }
  }
  LaneSum<float> sums[num_chunks(64)];
  sum_each<64>(acc, lane, sums);
#pragma unroll
  for (const LaneSum<float>& sum : sums) {
    const int i = p + sum.index / 8, j = q + sum.index % 8;
    if (sum.index >= 0 && i < p_end && j < q_end) pair_sum(to, rows, i, j) += sum.value;
  }
}

}  // namespace gmd::cuda
