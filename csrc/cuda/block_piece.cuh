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

// How many descriptors begin before a place on the line.
__device__ inline int count_before(const Table& table, int64_t place) {
  const Descriptor* descriptors = descriptors_of(table);
  int low = 0, high = table.layout.num_descriptors;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (descriptors[middle].begin < place) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ inline Piece piece_of_block(const Table& table) {
  const int64_t length = table.layout.length;
  const int64_t begin = piece_begin(length, gridDim.x, blockIdx.x),
                end = piece_begin(length, gridDim.x, blockIdx.x + 1);
  return {begin, end, max(count_before(table, begin + 1) - 1, 0), count_before(table, end)};
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
  const int64_t unit = window.unit(u), x = unit * kUnit + lane * Elements<E>::kPerVector;
  const int count = u < window.units ? last - first : 0;
#pragma unroll
  for (int k = 0; k < R; ++k) v[k] = {0, 0, 0, 0};
  if (rows.parameter.aligned && (unit + 1) * kUnit <= rows.parameter.numel) {
#pragma unroll
    for (int k = 0; k < R; ++k) {
      if (k >= from && k < count) v[k] = load_vector(rows.data[first + k] + x * size_of(E));
    }
    return;
  }
  const int there = static_cast<int>(max(int64_t{0}, min(int64_t{Elements<E>::kPerVector}, rows.parameter.numel - x)));
  constexpr int kAtOnce = R == 16 && Elements<E>::kPerVector == 8 ? 1 : 2;  // where registers are short: one
#pragma unroll 1
  for (int row = from / kAtOnce * kAtOnce; row < R && row < count; row += kAtOnce) {
    uint4 some[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      some[i] = row + i < count ? gather<E>(rows.data[first + row + i] + x * size_of(E), there) : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int k = 0; k < R; ++k) {
      if (k / kAtOnce * kAtOnce == row) v[k] = some[k % kAtOnce];
    }
  }
}

}  // namespace gmd::cuda
