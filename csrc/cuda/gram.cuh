// The Gramian of a block's piece of the line, for up to kMaxFused objectives: each warp by itself.
#pragma once

#include "launch.h"
#include "products.cuh"

namespace gmd::cuda {

// launch_gram for more objectives, see gram_wide.cu.
cudaError_t launch_gram_wide(const Table& table, const LaunchShape& shape, const Workspace& workspace, double* gram);

// The shared memory of a block, gram_shared_bytes of it.
struct GramMemory {
  double* sums;  // [kWarps][pairs], zeros at first, in fused_sums_bytes
  Rows* rows;    // [kWarps]
  BlockState* state;

  __device__ explicit GramMemory(const Table& table)
      : sums(reinterpret_cast<double*>(dynamic_shared())),
        rows(reinterpret_cast<Rows*>(dynamic_shared() + fused_sums_bytes(table.layout.num_objectives))),
        state(reinterpret_cast<BlockState*>(rows + kWarps)) {
    const Piece piece = piece_of_block(table);
    if (threadIdx.x == 0) state->piece = piece;
    find_spans(table, piece, *state);
    if (threadIdx.x < kWarps) rows[threadIdx.x].slot = 0;
    for (int i = threadIdx.x; i < kWarps * num_pairs(table.layout.num_objectives); i += kThreads) sums[i] = 0;
    __syncthreads();
  }

  __device__ uint4* end() const { return reinterpret_cast<uint4*>(state + 1); }
};

__device__ inline void add_window(const Rows& rows, const Window& window, double* sums, const Keep& keep, int lane) {
  const int count = rows.parameter.count;
  const bool added = with_type(rows.parameter.type, [&](auto e) {
    constexpr Type E = decltype(e)::value;
    if constexpr (E == Type::kDouble) {
      return false;
    } else {
      const int padded = padded_rows(count);
      return padded == 4   ? add_products<E, 4>(rows, 0, count, window, sums, keep, lane)
             : padded == 8 ? add_products<E, 8>(rows, 0, count, window, sums, keep, lane)
                           : add_products<E, 16>(rows, 0, count, window, sums, keep, lane);
    }
  });
  if (added) return;
  with_type(rows.parameter.type,
            [&](auto e) { add_exact<decltype(e)::value>(rows, 0, count, 0, count, window, sums, lane); });
}

// Slots of a Keep that a unit takes. What takes float64 products is read element by element, not in vectors.
__device__ inline int slots_of(const Descriptor& d) { return d.type == Type::kDouble ? 0 : d.count; }

// On to the window behind: none, where it has no units.
__device__ inline void next_window(Rows& rows, int lane) {
  __syncwarp();
  if (lane == 0) {
    rows.slot += rows.window.units * slots_of(rows.parameter);
    const int most = window_units(rows.parameter.count);
    rows.window = window_at(rows.window.unit(most), rows.end, most, kWarps);
  }
  __syncwarp();
}

// The block's part in all Gramians. True in the block that was the last to arrive for its last group, where that
// group's Gramian stands now.
__device__ inline bool gram_piece(const Table& table, const GramMemory& memory, const Finish& finish,
                                  const Keep& keep) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Rows& rows = memory.rows[warp];
  double* sums = memory.sums + warp * num_pairs(table.layout.num_objectives);
  bool last = false;
  for (int p = memory.state->piece.first; p < memory.state->piece.last; ++p) {
    const Descriptor& d = descriptors_of(table)[p];
    const Units units = memory.state->piece.units_of(d);
    const int64_t first = first_unit_of_warp(d, units.begin, warp);
    if (first < units.end) {
      read_rows(rows, table, d, lane, 32);
      if (lane == 0) rows.end = units.end;
      if (lane == 0) rows.window = window_at(first, units.end, window_units(d.count), kWarps);
      __syncwarp();
      while (rows.window.units > 0) {
        add_window(rows, rows.window, sums, keep, lane);
        next_window(rows, lane);
      }
    }
    __syncwarp();
    if (p + 1 == memory.state->piece.last || descriptors_of(table)[p + 1].group != d.group) last = finish(d.group);
  }
  return last;
}

}  // namespace gmd::cuda
