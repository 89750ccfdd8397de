// The piece of the line that belongs to a block: how its warps share the piece, and load the gradients of its units.
#pragma once

#include "elements.cuh"
#include "kernels.h"

namespace gmd::cuda {

__device__ inline const Descriptor* descriptors_of(const Table& table) {
  return reinterpret_cast<const Descriptor*>(table.words);
}
__device__ inline const void* const* pointers_of(const Table& table) {
  return reinterpret_cast<const void* const*>(table.words + table.layout.pointers);
}
__device__ inline const uint8_t* objectives_of(const Table& table) {
  return reinterpret_cast<const uint8_t*>(table.words + table.layout.objectives);
}
__device__ inline const int64_t* bounds_of(const Table& table) {
  return reinterpret_cast<const int64_t*>(table.words + table.layout.bounds);
}

// How many descriptors begin before each of two places on the line; all of a block's threads together. Each looks at a
// descriptor, evenly spaced among those in question: one round of loads for 256 of them, two for 65,536. A search by
// halves would wait for one load after the other.
__device__ inline void count_before(const Table& table, const int64_t (&places)[2], int (&counts)[2]) {
  const Descriptor* descriptors = descriptors_of(table);
  int high[2] = {table.layout.num_descriptors, table.layout.num_descriptors};
  counts[0] = counts[1] = 0;  // a count is at least this, and at most `high`
  while (counts[0] < high[0] || counts[1] < high[1]) {
    int step[2];
    bool is_before[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      step[i] = max(1, (high[i] - counts[i] + kThreads - 1) / kThreads);
      const int probe = counts[i] + (static_cast<int>(threadIdx.x) + 1) * step[i] - 1;
      is_before[i] = probe < high[i] && descriptors[probe].begin < places[i];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      counts[i] += __syncthreads_count(is_before[i]) * step[i];
      high[i] = min(high[i], counts[i] + step[i] - 1);
    }
  }
}

// All of a block's threads together.
__device__ inline Piece piece_of_block(const Table& table) {
  const int64_t length = table.layout.length;
  const int64_t begin = piece_begin(length, gridDim.x, blockIdx.x),
                end = piece_begin(length, gridDim.x, blockIdx.x + 1);
  int counts[2];
  count_before(table, {begin + 1, end}, counts);
  return {begin, end, max(counts[0] - 1, 0), counts[1]};
}

// A unit's turn is its number on the line; each warp takes every eighth. So small parameters spread over the warps.
__device__ inline int64_t first_unit_of_warp(const Descriptor& d, int64_t begin, int warp) {
  return begin + ((warp - d.turn - begin) % kWarps + kWarps) % kWarps;
}

// Of `threads` threads this is number `thread`; they have to meet before and after.
__device__ inline void read_rows(Rows& rows, const Table& table, const Descriptor& d, int thread, int threads) {
  for (int k = thread; k < d.count; k += threads) {
    rows.data[k] = static_cast<const char*>(pointers_of(table)[d.first + k]);
    rows.objectives[k] = objectives_of(table)[d.first + k];
  }
  if (thread == 0) rows.parameter = d;
}

// From `first` on every step-th unit below `end`, at most so many; none behind.
__device__ inline Window window_at(int64_t first, int64_t end, int most, int step) {
  const int64_t left = (end - first + step - 1) / step;
  return {first, static_cast<int>(max(int64_t{0}, min(int64_t{most}, left))), step};
}

// Where a warp keeps vectors of gradients in shared memory, for a second pass: each row of each unit that it comes to
// takes the next slot, as long as there are any. The default keeps nothing.
struct Keep {
  int begin = 0;     // of its slots, in vectors
  int capacity = 0;  // slots

  // A capacity that the compiler knows to be 0 makes it drop the stores; of a slot it knows nothing.
  __device__ bool has(int slot) const { return capacity > 0 && slot < capacity; }
  __device__ uint4& at(int slot, int lane) const {
    return reinterpret_cast<uint4*>(dynamic_shared())[begin + 32 * slot + lane];
  }
};

// v[k] = the lane's vector of row first + k in unit u of the window; zeros from row `last` on, and behind the window.
// Rows before first + `from` are left out. All 16-byte loads are under way before any is waited for. Others are rare
// (the last unit of a parameter, unaligned gradients): few rows at a time, in a loop, so that their code stays small.
template <Type E, int R>
__device__ inline void load_unit(uint4 (&v)[R], const Rows& rows, int first, int last, const Window& window, int u,
                                 int lane, int from = 0) {
  constexpr int64_t kUnit = unit_elements(E);
  const int64_t begin = window.unit(u) * kUnit;
  const int count = u < window.units ? last - first : 0;
#pragma unroll
  for (int k = 0; k < R; ++k) v[k] = {0, 0, 0, 0};
  if (rows.parameter.aligned && begin + kUnit <= rows.parameter.numel) {
#pragma unroll
    for (int k = 0; k < R; ++k) {
      if (k >= from && k < count) v[k] = load_vector(rows.data[first + k] + begin * size_of(E) + lane * kVectorBytes);
    }
    return;
  }
  const int there = static_cast<int>(min(kUnit, rows.parameter.numel - begin));
  constexpr int kAtOnce = R == 16 && Elements<E>::kPerVector == 8 ? 1 : 2;  // where registers are short: one
#pragma unroll 1
  for (int row = from / kAtOnce * kAtOnce; row < R && row < count; row += kAtOnce) {
    uint4 some[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool is_row = row + i < count;
      some[i] = is_row ? gather<E>(rows.data[first + row + i] + begin * size_of(E), lane, there) : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int k = 0; k < R; ++k) {
      if (k / kAtOnce * kAtOnce == row) v[k] = some[k % kAtOnce];
    }
  }
}

}  // namespace gmd::cuda
