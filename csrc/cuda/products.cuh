// Inner products of rows of float32 numbers over the units of a window, within one warp.
#pragma once

#include <type_traits>

#include "exact.cuh"

namespace gmd::cuda {

// A window has so few units that the float32 sum of a lane is one of at most 28 products, and then of 5 levels over the
// lanes. Up to 4 rows have windows of kExactUnits.
constexpr int kWindowUnits = 7;
constexpr int kExactUnits = 4;

// Whether the sums of squares among the sums tell that float32 held all products. A row of zeros is held as well.
template <int N>
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
    if ((doubtful >> (k - first) & 1) && !is_zero<Type::kFloat>(rows, k, window, lane)) return false;
  }
  return true;
}

template <int R, class Sum>
__device__ inline void multiply_unit(const uint4 (&v)[R], Sum (&acc)[num_pairs(R)]) {
#pragma unroll
  for (int e = 0; e < Elements<Type::kFloat>::kPerVector; ++e) {
    Sum x[R];
#pragma unroll
    for (int k = 0; k < R; ++k) x[k] = Elements<Type::kFloat>::get(v[k], e);
#pragma unroll
    for (int j = 0; j < R; ++j) {
#pragma unroll
      for (int i = 0; i <= j; ++i) acc[pair_index(i, j)] += x[i] * x[j];
    }
  }
}

template <int R>
__device__ inline void keep_unit(const uint4 (&v)[R], int count, const Keep& keep, int slot, int lane) {
#pragma unroll
  for (int k = 0; k < R; ++k) {
    if (k < count && keep.has(slot + k)) keep.at(slot + k, lane) = v[k];
  }
}

// Adds each sum to that of its pair of rows.
template <class Sum, int N>
__device__ inline void add_sums(const LaneSum<Sum> (&sums)[N], const Rows& rows, int first, int last, double* to) {
#pragma unroll
  for (const LaneSum<Sum>& sum : sums) {
    const int j = column_of_pair(max(sum.index, 0)), i = sum.index - pair_index(0, j);
    if (sum.index >= 0 && first + j < last) pair_sum(to, rows, first + i, first + j) += sum.value;
  }
}

// Adds the products of all pairs of rows [first, last), at most R; false, and nothing added, if float32 cannot hold
// them. Those of up to 4 rows are exact, in float64: that takes no longer than reading them.
template <int R>
__device__ inline bool add_products(const Rows& rows, int first, int last, const Window& window, double* to, Keep keep,
                                    int lane) {
  constexpr bool kExact = R == 4;
  constexpr int kAtOnce = units_at_once(R), kPairs = num_pairs(R);
  using Sum = std::conditional_t<kExact, double, float>;
  lane = forget(lane);
  Sum acc[kPairs] = {};
  for (int unit = 0; unit < window.units; unit += kAtOnce) {
    __syncwarp();  // what is in shared memory is read again in each turn: there are no registers to keep it in
    uint4 v[kAtOnce][R];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) load_unit<Type::kFloat, R>(v[u], rows, first, last, window, unit + u, lane);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int count = unit + u < window.units ? last - first : 0;
      keep_unit(v[u], count, keep, rows.slot + (unit + u) * count, lane);
      multiply_unit<R>(v[u], acc);
    }
  }
  lane = forget(lane);
  LaneSum<Sum> sums[num_chunks(kPairs)];
  sum_each<kPairs>(acc, lane, sums);
  if constexpr (!kExact) {
    if (!are_safe(sums, rows, first, last, window, lane)) return false;
  }
  add_sums(sums, rows, first, last, to);
  __syncwarp();
  return true;
}

// The same of R = 1 or 2 rows, all of them, in a window of as many whole units as a warp loads at once: it would not
// have enough under way in a window of kExactUnits. Such windows are added up one by one, to the same bits.
template <int R>
__device__ inline void add_few_products(const Rows& rows, const Window& window, double* to, const Keep& keep,
                                        int lane) {
  constexpr int kAtOnce = units_at_once(R), kPairs = num_pairs(R);
  uint4 v[kAtOnce][R];
#pragma unroll
  for (int u = 0; u < kAtOnce; ++u) {
#pragma unroll
    for (int k = 0; k < R; ++k) v[u][k] = load_vector(rows.data[k] + window.unit(u) * kUnitBytes + kVectorBytes * lane);
  }
#pragma unroll
  for (int begin = 0; begin < kAtOnce; begin += kExactUnits) {
    double acc[kPairs] = {};
#pragma unroll
    for (int u = begin; u < begin + kExactUnits; ++u) {
      keep_unit(v[u], R, keep, rows.slot + u * R, lane);
      multiply_unit<R>(v[u], acc);
    }
    LaneSum<double> sums[num_chunks(kPairs)];
    sum_each<kPairs>(acc, lane, sums);
    add_sums(sums, rows, 0, R, to);
    __syncwarp();
  }
}

// Adds the products of up to 8 rows from p on with up to 8 from q on, p < q, all of them safe in float32.
__device__ inline void add_rectangle(const Rows& rows, int p, int p_end, int q, int q_end, const Window& window,
                                     double* to, int lane) {
  constexpr Type E = Type::kFloat;
  lane = forget(lane);
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
