// The Gramian of a block's piece of the line, for up to kMaxFused objectives: each warp by itself.
#pragma once

#include "launch.h"
#include "products.cuh"
#include "tensor_products.cuh"

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

// The window that begins with a unit of the parameter that a warp is at, of which the block has those before `end`.
__device__ inline Window window_from(const Descriptor& d, int64_t first, int64_t end) {
  const int rows = 1 << shift_of_rows(d.count), at_once = units_at_once(rows);
  if (is_short(d.type)) return window_at(first, end, kTensorTurns * at_once, kWarps);
  if (rows > 4) return window_at(first, end, kWindowUnits / at_once * at_once, kWarps);
  if (d.type == Type::kFloat && rows < 4) {
    const Window few = window_at(first, end, at_once, kWarps);
    if (few.units == at_once && d.aligned && (few.unit(at_once - 1) + 1) * unit_elements(d.type) <= d.numel) return few;
  }
  return window_at(first, end, kExactUnits, kWarps);
}

// False, and nothing added, if that takes float64.
template <Type E>
__device__ inline bool add_narrow_window(const Rows& rows, const Window& window, double* sums, const Keep& keep,
                                         int lane) {
  const int count = rows.parameter.count;
  if constexpr (E == Type::kDouble) {
    return false;
  } else if constexpr (is_short(E)) {
    return can_multiply(add_on_tensor_cores<E>(rows, 0, count, window, sums, keep, lane));
  } else if (window.units > kExactUnits && count <= 2) {
    count == 1 ? add_few_products<1>(rows, window, sums, keep, lane)
               : add_few_products<2>(rows, window, sums, keep, lane);
    return true;
  } else {
    return count <= 4   ? add_products<4>(rows, 0, count, window, sums, keep, lane)
           : count <= 8 ? add_products<8>(rows, 0, count, window, sums, keep, lane)
                        : add_products<16>(rows, 0, count, window, sums, keep, lane);
  }
}

__device__ inline void add_window(const Rows& rows, const Window& window, double* sums, const Keep& keep, int lane) {
  with_type(rows.parameter.type, [&](auto e) {
    constexpr Type E = decltype(e)::value;
    const int count = rows.parameter.count;
    if (!add_narrow_window<E>(rows, window, sums, keep, lane)) {
      add_exact<E>(rows, 0, count, 0, count, window, sums, lane);
    }
  });
}

// Slots of a Keep that a unit takes. What takes float64 products is read element by element, not in vectors.
__device__ inline int slots_of(const Descriptor& d) { return d.type == Type::kDouble ? 0 : d.count; }

// On to the window behind: none, where it has no units.
__device__ inline void next_window(Rows& rows, int lane) {
  __syncwarp();
  if (lane == 0) {
    rows.slot += rows.window.units * slots_of(rows.parameter);
    rows.window = window_from(rows.parameter, rows.window.unit(rows.window.units), rows.end);
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
      if (lane == 0) rows.window = window_from(d, first, units.end);
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
