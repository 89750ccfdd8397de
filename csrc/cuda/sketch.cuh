// The elements of one slice of a gradient in one range of buckets.
#pragma once

#include "elements.cuh"
#include "kernels.h"

namespace gmd::cuda {

constexpr int kSignHalves = kWarpBuckets / 32 + 1;  // words of 32 signs that a warp's elements take
constexpr int kSketchRuns = kThreads;               // that a block of threads finds together

// Neighbouring elements for neighbouring buckets, as Run has them, and whose they are.
struct SketchRun {
  Run run;
  const char* data;
  uint64_t key;
  Type type;
};

struct SketchMemory {
  SketchRun runs[kSketchRuns];
  uint32_t signs[kWarps][kSignHalves];
};

// The parameter that block number `block` of all parameters is of.
__device__ inline const SketchSource& source_of(const Table& table, int64_t block) {
  const SketchSource* sources = reinterpret_cast<const SketchSource*>(table.words);
  int low = 0, high = table.layout.num_descriptors - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (sources[middle].first_block <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return sources[low];
}

// One of the two runs of a block.
__device__ inline SketchRun run_at(const Table& table, const SketchTask& task, int64_t block, bool second) {
  const SketchSource& source = source_of(table, block);
  const uint64_t key = parameter_key(task.seed, source.index);
  return {run_of_block(key, source.numel, task.d, block - source.first_block, second), source.data, key,
          static_cast<Type>(source.type)};
}

// sums[j] += the signed element of bucket begin + 32 j + lane, where the run has one. The warp finds its signs
// together: one number for 32 neighbours.
template <Type E, class Scalar>
__device__ inline void add_elements(Scalar (&sums)[kSketchLanes], const SketchRun& of, int64_t begin, uint32_t* signs,
                                    int lane) {
  const int64_t there = of.run.first + max(begin, of.run.begin) - of.run.begin;  // the first element that is there
  if (lane < kSignHalves) {
    const int64_t half = there / 32 + lane;
    signs[lane] = static_cast<uint32_t>(sign_word(of.key, half / 2) >> half % 2 * 32);
  }
  Scalar values[kSketchLanes];
  const int64_t first = of.run.first + begin - of.run.begin + lane;
#pragma unroll
  for (int j = 0; j < kSketchLanes; ++j) {
    const int64_t bucket = begin + 32 * j + lane;
    const bool has = bucket >= of.run.begin && bucket < of.run.end;
    values[j] = has ? static_cast<Scalar>(load_element<E>(of.data, first + 32 * j)) : Scalar{0};
  }
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kSketchLanes; ++j) {
    const int64_t element = first + 32 * j;
    const int half = max(static_cast<int>((element >> 5) - (there >> 5)), 0);  // below 0: not there
    sums[j] += signs[half] >> (element & 31) & 1 ? -values[j] : values[j];
  }
  __syncwarp();
}

// The block's slice in the block's range of buckets, [d] of partials.
template <class Scalar>
__device__ inline void sketch_slice(const Table& table, const SketchTask& task, SketchMemory& memory,
                                    Scalar* partials) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t slice = blockIdx.x / task.ranges;
  const int64_t begin = int64_t{blockIdx.x % task.ranges} * kSketchRange + warp * kWarpBuckets;
  const int64_t last = piece_begin(task.blocks, task.slices, slice + 1);
  Scalar sums[kSketchLanes] = {};
  for (int64_t at = piece_begin(task.blocks, task.slices, slice); at < last; at += kSketchRuns / 2) {
    const int64_t mine = at + threadIdx.x / 2;
    if (mine < last) memory.runs[threadIdx.x] = run_at(table, task, mine, threadIdx.x % 2 == 1);
    __syncthreads();
    const int count = static_cast<int>(min(int64_t{kSketchRuns}, 2 * (last - at)));
    for (int i = 0; i < count; ++i) {
      const SketchRun& of = memory.runs[i];
      if (max(of.run.begin, begin) >= min(of.run.end, begin + kWarpBuckets)) continue;
      with_type(of.type, [&](auto e) { add_elements<decltype(e)::value>(sums, of, begin, memory.signs[warp], lane); });
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < kSketchLanes; ++j) {
    const int64_t bucket = begin + 32 * j + lane;
    if (bucket < task.d) global(partials)[slice * task.d + bucket] = sums[j];
  }
}

}  // namespace gmd::cuda
