// Two sums of each channel of a slot, over the threads of a block; then those of all slots, by the last block.
#pragma once

#include "../reduce.cuh"
#include "places.cuh"

namespace gmd::cuda {

constexpr int kNormShared = 17;  // of each thread, in Scalars: those of eight channels and a count

// All rows' sums -> those of row 0, pairwise. `Sums` puts its numbers into shared memory and merges others from there.
template <class Sums, class Scalar>
__device__ inline void fold_rows(Sums& sums, const NormCut& cut, int local_row, Scalar* shared) {
  for (int rows = cut.rows; rows > 1;) {
    const int half = (rows + 1) / 2;
    if (local_row >= half && local_row < rows) sums.put(shared + threadIdx.x);
    __syncthreads();
    if (local_row < rows - half) sums.merge(shared + threadIdx.x + half * cut.columns);
    __syncthreads();
    rows = half;
  }
}

// The pair of numbers that a slot leaves for a channel. Those of a channel's slots are neighbours.
template <class Scalar>
struct Pair {
  Scalar first, second;
};

__device__ inline int64_t pair_place(const NormTask& task, int64_t sample, int64_t channel, int slot) {
  return (sample * task.shape.channels + channel) * task.cut.slots + slot;
}

template <class Scalar>
__device__ inline void store_pair(double* partials, int64_t place, Pair<Scalar> pair) {
  if constexpr (sizeof(Scalar) == 4) {
    global(partials)[place] = __hiloint2double(__float_as_uint(pair.second), __float_as_uint(pair.first));
  } else {
    global(partials)[2 * place] = pair.first;
    global(partials)[2 * place + 1] = pair.second;
  }
}

// What another block left.
template <class Scalar>
__device__ inline Pair<Scalar> load_pair(const double* partials, int64_t place) {
  if constexpr (sizeof(Scalar) == 4) {
    const double both = load_fresh(global(partials) + place);
    return {__uint_as_float(__double2loint(both)), __uint_as_float(__double2hiint(both))};
  } else {
    return {load_fresh(global(partials) + 2 * place), load_fresh(global(partials) + 2 * place + 1)};
  }
}

// Where the sums over all slots are, [n, 2, C] float64, and behind them what comes of each group, [n, 2, G].
__device__ inline double* sums_of(const NormTask& task, const NormWorkspace& workspace) {
  return workspace.memory + norm_partials(task);
}

// Channels [begin, end) of a sample, whole groups; their number among all samples' `index`.
struct Domain {
  int begin, end;
  int64_t index;

  __device__ Domain(const NormTask& task, const NormBlock& block) {
    const NormCut& cut = task.cut;
    const int which = block.chunk * cut.width / cut.domain;
    begin = which * cut.domain;
    end = min(begin + cut.domain, task.shape.channels);
    index = block.sample * cut.domains + which;
  }
};

// Whether the block is the last one to come here of those that the domain's channels are spread over. All of its
// threads together, after they have stored what they have for others.
__device__ inline bool is_last(const NormTask& task, const Domain& domain, const NormWorkspace& workspace) {
  const int chunks = (domain.end - domain.begin + task.cut.width - 1) / task.cut.width;
  const uint32_t others = static_cast<uint32_t>(chunks) * task.cut.slots - 1;
  __threadfence();
  __syncthreads();  // all of the block's numbers are there before it arrives
  const bool last = __syncthreads_or(threadIdx.x == 0 && atomicAdd(&workspace.counters[domain.index], 1u) == others);
  if (!last) return false;
  __threadfence();
  if (threadIdx.x == 0) workspace.counters[domain.index] = 0;
  return true;
}

__device__ inline double sum_of_lanes(double value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

// sums [2, C] of a sample = those over all slots of term_of(channel)(pair, slot), a warp for each channel.
template <class Scalar, class TermOf>
__device__ inline void add_slots(const NormTask& task, const Domain& domain, int64_t sample, const double* partials,
                                 double* sums, TermOf term_of) {
  const int lane = threadIdx.x % 32;
  for (int channel = domain.begin + threadIdx.x / 32; channel < domain.end; channel += kWarps) {
    const auto term = term_of(channel);
    Pair<double> total{0, 0};
#pragma unroll 4
    for (int slot = lane; slot < task.cut.slots; slot += 32) {
      const Pair<double> add = term(load_pair<Scalar>(partials, pair_place(task, sample, channel, slot)), slot);
      total.first += add.first;
      total.second += add.second;
    }
    total = {sum_of_lanes(total.first), sum_of_lanes(total.second)};
    if (lane != 0) continue;
    global(sums)[channel] = total.first;
    global(sums)[task.shape.channels + channel] = total.second;
  }
  __syncthreads();
}

// finish(group, the two sums over the group's channels of weight(channel) * sums), on one lane for each group.
template <class Weight, class Finish>
__device__ inline void add_channels(const NormTask& task, const Domain& domain, const double* sums, Weight weight,
                                    Finish finish) {
  const int lane = threadIdx.x % 32, size = task.shape.group();
  for (int group = domain.begin / size + threadIdx.x / 32; group < domain.end / size; group += kWarps) {
    Pair<double> total{0, 0};
    for (int channel = group * size + lane; channel < (group + 1) * size; channel += 32) {
      const double w = weight(channel);
      total.first += w * global(sums)[channel];
      total.second += w * global(sums)[task.shape.channels + channel];
    }
    total = {sum_of_lanes(total.first), sum_of_lanes(total.second)};
    if (lane == 0) finish(group, total);
  }
}

}  // namespace gmd::cuda
