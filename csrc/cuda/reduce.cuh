// Sums over the lanes of a warp, the warps of a block, and the blocks of a launch, each in a fixed order.
#pragma once

#include "block_piece.cuh"

namespace gmd::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// Values that are added up together: 32, or the largest power of two below that there are.
GMD_BOTH constexpr int chunk_size(int values) {
  int size = 32;
  while (size > values) size /= 2;
  return size;
}

// The sum over all lanes of v[lane / (32 / N)]. Each exchange halves the values that a lane is left with, as well as
// the lanes that each of these still has to come from: 31 exchanges for 32 values, where one by one would take 160.
template <int N, int Offset = 16, class Sum>
__device__ inline Sum sum_over_lanes(Sum* v, int lane) {
  if constexpr (Offset == 0) {
    return v[0];
  } else if constexpr (N == 1) {
    v[0] += __shfl_xor_sync(kAllLanes, v[0], Offset);
  } else {
    const bool upper = lane & Offset;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const Sum kept = upper ? v[i + N / 2] : v[i], sent = upper ? v[i] : v[i + N / 2];
      v[i] = kept + __shfl_xor_sync(kAllLanes, sent, Offset);
    }
  }
  if constexpr (Offset > 0) return sum_over_lanes<(N > 1 ? N / 2 : 1), Offset / 2>(v, lane);
}

// A sum over all lanes, on the one lane that it belongs to; index -1 on the others.
template <class Sum>
struct LaneSum {
  int index;
  Sum value;
};

GMD_BOTH constexpr int num_chunks(int values) { return values == 0 ? 0 : 1 + num_chunks(values - chunk_size(values)); }

// sums = those of v[0 .. N), each on a lane of its own.
template <int N, class Sum>
__device__ inline void sum_each(Sum* v, int lane, LaneSum<Sum>* sums, int first = 0) {
  constexpr int kChunk = chunk_size(N), kLanes = 32 / kChunk;
  const Sum value = sum_over_lanes<kChunk>(v, lane);
  *sums = {lane % kLanes == 0 ? first + lane / kLanes : -1, value};
  if constexpr (N > kChunk) sum_each<N - kChunk>(v + kChunk, lane, sums + 1, first + kChunk);
}

// Of pair_index(i, j): j.
__device__ inline int column_of_pair(int pair) { return static_cast<int>((sqrtf(8.0f * pair + 1.0f) - 1.0f) / 2.0f); }

__device__ inline Span span_of(const Table& table, int group) {
  const Layout& layout = table.layout;
  if (layout.num_groups == 1) return {0, static_cast<int>(gridDim.x)};
  const int64_t begin = bounds_of(table)[group], end = bounds_of(table)[group + 1];
  if (begin == end) return {0, 0};
  const int64_t first = piece_of(layout.length, gridDim.x, begin);
  return {static_cast<int>(first), static_cast<int>(piece_of(layout.length, gridDim.x, end - 1) - first) + 1};
}

// Its divisions take long: they are done before anybody waits for them, and by the last warp, while the others load.
__device__ inline void find_spans(const Table& table, const Piece& piece, BlockState& state) {
  const int lane = static_cast<int>(threadIdx.x) - (kThreads - 32);
  if (lane < 0 || piece.first >= piece.last) return;
  const int first = descriptors_of(table)[piece.first].group, group = first + lane;
  if (lane == 0) state.first_group = first;
  if (group < table.layout.num_groups) state.spans[lane] = span_of(table, group);
}

// totals[p] = the sum over [begin, end) of the partials of pairs first + p * step, one partial after the other; the
// loads of kPairs * kPartials of them are under way at once.
template <int kPairs, int kPartials>
__device__ inline void sum_partials(const double* partials, int begin, int end, int pairs, int first, int step,
                                    double (&totals)[kPairs]) {
#pragma unroll
  for (int p = 0; p < kPairs; ++p) totals[p] = 0;
  const double* row = partials + int64_t{begin} * pairs + first;
#pragma unroll 1
  for (int left = end - begin; left > 0; left -= kPartials, row += kPartials * pairs) {
    double v[kPartials][kPairs];
#pragma unroll
    for (int i = 0; i < kPartials; ++i) {
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        v[i][p] = i < left && first + p * step < pairs ? load_fresh(row + i * pairs + p * step) : 0;
      }
    }
#pragma unroll
    for (int i = 0; i < kPartials; ++i) {
#pragma unroll
      for (int p = 0; p < kPairs; ++p) totals[p] += v[i][p];
    }
  }
}

// sums[pair] = those of pairs start, start + step, ..
template <int kPairs, int kPartials>
__device__ inline void sum_slice(const double* partials, int begin, int end, int pairs, int start, int step,
                                 double* sums) {
#pragma unroll 1
  for (int first = start; first < pairs; first += kPairs * step) {
    double totals[kPairs];
    sum_partials<kPairs, kPartials>(partials, begin, end, pairs, first, step, totals);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      if (first + p * step < pairs) sums[first + p * step] = totals[p];
    }
  }
}

// gram [T, T] = the sums of [count] partials. Slices of these are added up by a warp each, where there are as many
// arrays of sums as warps, and then in order.
__device__ inline void reduce_partials(const double* partials, int count, int t, double* sums, int arrays,
                                       double* gram) {
  const int pairs = num_pairs(t), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (arrays == 1) {
    sum_slice<1, 20>(partials, 0, count, pairs, threadIdx.x, kThreads, sums);
  } else {
    const int begin = count * warp / kWarps, end = count * (warp + 1) / kWarps;
    if (pairs <= 32) {
      sum_slice<1, 20>(partials, begin, end, pairs, lane, 32, sums + warp * pairs);
    } else {
      sum_slice<5, 4>(partials, begin, end, pairs, lane, 32, sums + warp * pairs);
    }
  }
  __syncthreads();
#pragma unroll 1
  for (int pair = threadIdx.x; pair < pairs; pair += kThreads) {
    double total = 0;
    for (int s = 0; s < arrays; ++s) {
      total += sums[s * pairs + pair];
      sums[s * pairs + pair] = 0;
    }
    const int j = column_of_pair(pair), i = pair - pair_index(0, j);
    gram[i * t + j] = total;
    gram[j * t + i] = total;
  }
  __syncthreads();
}

// What the blocks leave for each other; all of a block's threads together.
struct Finish {
  const Table& table;
  const Workspace& workspace;
  const BlockState& state;
  double* sums;  // [arrays][pairs] in shared memory, zeros again afterwards
  int arrays;    // kWarps or 1
  double* gram;  // [K, T, T]

  // The block is through with a group: its sums become a partial. The last one to arrive adds these up; true there.
  __device__ bool operator()(int group) const {
    const Layout& layout = table.layout;
    const int t = layout.num_objectives, pairs = num_pairs(t);
    __syncthreads();
    const int known = group - state.first_group;
    const Span span = known < kSpans ? state.spans[known] : span_of(table, group);
    // block + group is a number of its own for every block of every group: both only grow along the line
    double* partial = workspace.partials + (int64_t{blockIdx.x} + group) * pairs;
#pragma unroll 1
    for (int pair = threadIdx.x; pair < pairs; pair += kThreads) {
      double total = 0;
      for (int a = 0; a < arrays; ++a) {
        total += sums[a * pairs + pair];
        sums[a * pairs + pair] = 0;
      }
      partial[pair] = total;
    }
    __threadfence();
    __syncthreads();  // all of the block's sums are there before it arrives
    const bool last = __syncthreads_or(threadIdx.x == 0 && arrive(group) == span.count - 1);
    if (!last) return false;
    __threadfence();
    reduce_partials(workspace.partials + (int64_t{span.first} + group) * pairs, span.count, t, sums, arrays,
                    gram + int64_t{group} * t * t);
    if (threadIdx.x == 0) workspace.counters[1 + group] = 0;
    return true;
  }

 private:
  __device__ int arrive(int group) const { return static_cast<int>(atomicAdd(&workspace.counters[1 + group], 1u)); }
};

// Zeros for the groups without any parameter, which no block comes across.
__device__ inline void clear_empty_groups(const Table& table, double* gram) {
  const int64_t* bounds = bounds_of(table);
  const int numbers = table.layout.num_objectives * table.layout.num_objectives;
  for (int64_t group = blockIdx.x; group < table.layout.num_groups; group += gridDim.x) {
    if (bounds[group] != bounds[group + 1]) continue;
    for (int i = threadIdx.x; i < numbers; i += kThreads) gram[group * numbers + i] = 0;
  }
}

}  // namespace gmd::cuda
