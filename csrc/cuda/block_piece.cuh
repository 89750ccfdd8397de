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

// A search for how many descriptors begin before a place on the line, by all of a block's threads together. Each looks
// at one, evenly spaced among those in question: one round of loads for 256 descriptors, two for 65,536. A search by
// halves would wait for one load after the other.
struct Search {
  int low, high;  // between which the answer lies

  __device__ bool is_over() const { return low == high; }
  __device__ int step() const { return max(1, (high - low + kThreads - 1) / kThreads); }
  // Where the descriptor that this thread looks at begins.
  __device__ int64_t look(const Descriptor* descriptors) const {
    const int at = low + (static_cast<int>(threadIdx.x) + 1) * step() - 1;
    return at < high ? descriptors[at].begin : INT64_MAX;
  }
  __device__ void narrow(bool is_before) {
    const int passed = step();
    low += __syncthreads_count(is_before) * passed;
    high = min(high, low + passed - 1);
  }
};

// All of a block's threads together.
__device__ inline Piece piece_of_block(const Table& table) {
  const Descriptor* descriptors = descriptors_of(table);
  const int64_t length = table.layout.length;
  Search first{0, table.layout.num_descriptors}, last = first;
  int64_t at_first = first.look(descriptors), at_last = at_first;  // under way during the divisions
  const int64_t begin = piece_begin(length, gridDim.x, blockIdx.x),
                end = piece_begin(length, gridDim.x, blockIdx.x + 1);
  for (;;) {
    first.narrow(at_first <= begin);
    last.narrow(at_last < end);
    if (first.is_over() && last.is_over()) break;
    at_first = first.look(descriptors);
    at_last = last.look(descriptors);
  }
  return {begin, end, max(first.low - 1, 0), last.low};
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
  constexpr int kAtOnce = 2;
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
