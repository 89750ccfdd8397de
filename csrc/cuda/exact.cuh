// Inner products of rows within one warp, in float64: for numbers of any size and type, and no quicker than need be.
#pragma once

#include "reduce.cuh"

namespace gmd::cuda {

// How many rows there are products of at once, as a power of two: absent ones count as zeros. And how many units of so
// many rows a warp loads at once: 16 vectors a lane, 64 registers.
__device__ inline int shift_of_rows(int count) {
  return count <= 1 ? 0 : count <= 2 ? 1 : count <= 4 ? 2 : count <= 8 ? 3 : 4;
}
GMD_BOTH constexpr int units_at_once(int rows) { return 16 / rows; }

// Where the products of two rows are added up: sums are [pairs] of all T objectives.
__device__ inline double& pair_sum(double* sums, const Rows& rows, int i, int j) {
  return sums[pair_index(rows.objectives[i], rows.objectives[j])];
}

// float32 lost none of the products of rows whose sums of squares lie between these: by underflow a product loses at
// most 2^-126, nothing beside 2^-60 even 2^20 times over, and no product or sum is larger than the squares are. NaN
// is not between.
template <class Sum>
__device__ inline bool is_safe(Sum square) {
  return square >= Sum{0x1p-60} && square <= Sum{0x1p100};
}

// visit(x) for the lane's elements of a window, one by one.
template <Type E, class Visit>
__device__ inline void each_element(int64_t numel, const Window& window, int lane, Visit visit) {
  constexpr int64_t kUnit = unit_elements(E);
  for (int u = 0; u < window.units; ++u) {
    const int64_t begin = window.unit(u) * kUnit, end = min(numel, begin + kUnit);
    for (int64_t x = begin + lane; x < end; x += 32) visit(x);
  }
}

template <Type E>
__device__ inline bool is_zero(const Rows& rows, int k, const Window& window, int lane) {
  bool zero = true;
  each_element<E>(rows.parameter.numel, window, lane,
                  [&](int64_t x) { zero &= load_element<E>(rows.data[k], x) == 0; });
  return __all_sync(kAllLanes, zero);
}

// Rows [p, p + 4) with rows [q, q + 4), p <= q.
template <Type E>
__device__ inline void add_exact_block(const Rows& rows, int p, int p_end, int q, int q_end, const Window& window,
                                       double* sums, int lane) {
  double acc[16] = {};
  each_element<E>(rows.parameter.numel, window, lane, [&](int64_t x) {
    double left[4], right[4];
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      left[s] = p + s < p_end ? load_element<E>(rows.data[p + s], x) : 0;
      right[s] = q + s < q_end ? load_element<E>(rows.data[q + s], x) : 0;
    }
#pragma unroll
    for (int s = 0; s < 16; ++s) acc[s] += left[s / 4] * right[s % 4];
  });
  LaneSum<double> sum[1];
  sum_each<16>(acc, lane, sum);
  const int i = p + sum->index / 4, j = q + sum->index % 4;
  if (sum->index >= 0 && i <= j && i < p_end && j < q_end) pair_sum(sums, rows, i, j) += sum->value;
}

// Adds the products of rows [p, p_end) with rows [q, q_end): of the same ones, each pair once, or of others behind.
template <Type E>
__device__ inline void add_exact(const Rows& rows, int p, int p_end, int q, int q_end, const Window& window,
                                 double* sums, int lane) {
  for (int i = p; i < p_end; i += 4) {
    for (int j = p == q ? i : q; j < q_end; j += 4) add_exact_block<E>(rows, i, p_end, j, q_end, window, sums, lane);
  }
  __syncwarp();
}

}  // namespace gmd::cuda
