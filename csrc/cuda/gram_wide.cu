// The Gramians of more than kMaxFused objectives: the warps of a block share the pairs of one window.
#include "gram.cuh"
#include "launch.h"

namespace gmd::cuda {
namespace {

constexpr int kSide = 8;        // objectives of a block of products: 64 of them in registers
constexpr int kWideWindow = 4;  // units; 64 rows of them stay in the first-level cache under all pairs

// The rows of a parameter, cut into as few parts of at most `side` as there have to be.
struct Parts {
  int rows, count;
  __device__ Parts(int rows, int side) : rows(rows), count((rows + side - 1) / side) {}
  __device__ int begin(int part) const { return part * rows / count; }
};

struct WideMemory {
  int pairs, slices;
  BlockState* state;
  double* sums;  // [slices][pairs]: the first ones are of all types, the others of 16 bits alone
  Rows* rows;    // of all warps

  __device__ explicit WideMemory(int t)
      : pairs(num_pairs(t)),
        slices(wide_slices(t)),
        state(reinterpret_cast<BlockState*>(dynamic_shared())),
        sums(reinterpret_cast<double*>(state + 1)),
        rows(reinterpret_cast<Rows*>(sums + slices * pairs)) {}
  // Of each part, whether it has to be multiplied in float64; of 16 bits, its Sizes in each slice. The weights have no
  // other use here.
  __device__ double* wide() const { return rows->weights; }

  // All of a block's threads together.
  __device__ void clear() const {
    for (int i = threadIdx.x; i < slices * pairs; i += kThreads) sums[i] = 0;
  }
  __device__ void add_up_slices() const {
    for (int pair = threadIdx.x; pair < pairs; pair += kThreads) {
      for (int slice = 1; slice < slices; ++slice) {
        sums[pair] += sums[slice * pairs + pair];
        sums[slice * pairs + pair] = 0;
      }
    }
  }
};

template <Type E>
__device__ inline void add_diagonal(const Rows& rows, const Parts& parts, int part, const Window& window, double* sums,
                                    double* wide, int lane) {
  const int begin = parts.begin(part), end = parts.begin(part + 1);
  bool added = false;
  if constexpr (E != Type::kDouble) {
    added = rows.parameter.count <= 4 ? add_products<4>(rows, begin, end, window, sums, Keep{}, lane)
                                      : add_products<kSide>(rows, begin, end, window, sums, Keep{}, lane);
  }
  if (!added) add_exact<E>(rows, begin, end, begin, end, window, sums, lane);
  if (lane == 0) wide[part] = !added;
}

// The parts with themselves first, since that tells which ones float32 is too narrow for.
template <Type E>
__device__ inline void add_wide_window(const Rows& rows, const Window& window, double* sums, double* wide, int warp,
                                       int lane) {
  const Parts parts(rows.parameter.count, kSide);
  if (warp < parts.count) add_diagonal<E>(rows, parts, warp, window, sums, wide, lane);
  __syncthreads();
  for (int p = 0, turn = 0; p < parts.count; ++p) {
    for (int q = p + 1; q < parts.count; ++q) {
      if (turn++ % kWarps != warp) continue;
      const int p_begin = parts.begin(p), p_end = parts.begin(p + 1), q_begin = parts.begin(q),
                q_end = parts.begin(q + 1);
      if (wide[p] != 0 || wide[q] != 0) {
        add_exact<E>(rows, p_begin, p_end, q_begin, q_end, window, sums, lane);
      } else if constexpr (E != Type::kDouble) {
        add_rectangle(rows, p_begin, p_end, q_begin, q_end, window, sums, lane);
      }
    }
  }
  __syncthreads();
}

// As many as a warp loads at once.
__device__ inline int units_of_slice(const Descriptor& d) {
  return d.count > kSlots ? 1 : units_at_once(1 << shift_of_rows(d.count));
}

// Units from one on, of rows of 16 bits: each slice of them, and of the sums, belongs to one or two warps.
template <Type E>
__device__ inline void add_short_units(const Rows& rows, int64_t unit, int64_t end, const WideMemory& memory, int warp,
                                       int lane) {
  const Parts parts(rows.parameter.count, kSlots);
  const int slice = warp % memory.slices, place = warp / memory.slices, warps = kWarps / memory.slices;
  const Window window = window_at(unit + slice, end, units_of_slice(rows.parameter), memory.slices);
  double* sums = memory.sums + slice * memory.pairs;
  double* sizes = memory.wide() + slice * (kMaxObjectives / kSlots);
  for (int p = place; p < parts.count; p += warps) {
    const int begin = parts.begin(p), rows_end = parts.begin(p + 1);
    const int found = add_on_tensor_cores<E>(rows, begin, rows_end, window, sums, Keep{}, lane);
    if (!can_multiply(found)) add_exact<E>(rows, begin, rows_end, begin, rows_end, window, sums, lane);
    if (lane == 0) sizes[p] = found;
  }
  __syncthreads();
  for (int p = 0, turn = 0; p < parts.count; ++p) {
    for (int q = p + 1; q < parts.count; ++q) {
      if (turn++ % warps != place || window.units == 0) continue;
      const int p_begin = parts.begin(p), p_end = parts.begin(p + 1), q_begin = parts.begin(q),
                q_end = parts.begin(q + 1);
      if (can_multiply(static_cast<int>(sizes[p]) | static_cast<int>(sizes[q]))) {
        add_rectangle_on_tensor_cores<E>(rows, p_begin, p_end, q_begin, q_end, window, sums, lane);
      } else {
        add_exact<E>(rows, p_begin, p_end, q_begin, q_end, window, sums, lane);
      }
    }
  }
  __syncthreads();
}

template <Type E>
__device__ inline void add_units(const Units& units, int t) {
  const WideMemory memory(forget(t));  // worked out anew, here and later: registers are short
  const Rows& rows = *memory.rows;
  const int warp = forget(threadIdx.x) / 32, lane = threadIdx.x % 32;
  if constexpr (is_short(E)) {
    const int step = memory.slices * units_of_slice(rows.parameter);
    for (int64_t unit = units.begin; unit < units.end; unit += step) {
      add_short_units<E>(rows, unit, units.end, memory, warp, lane);
    }
  } else {
    for (int64_t unit = units.begin; unit < units.end; unit += kWideWindow) {
      const Window window = window_at(unit, units.end, kWideWindow, 1);
      add_wide_window<E>(rows, window, memory.sums, memory.wide(), warp, lane);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1) gram_wide_kernel(Table table, Workspace workspace, double* gram) {
  const int t = table.layout.num_objectives;
  const WideMemory memory(t);
  const Piece found = piece_of_block(table);
  find_spans(table, found, *memory.state);
  if (threadIdx.x == 0) memory.state->piece = found;
  clear_empty_groups(table, gram);
  if (threadIdx.x == 0) memory.rows->slot = 0;
  memory.clear();
  __syncthreads();
  const Piece& piece = memory.state->piece;
  for (int p = piece.first; p < piece.last; ++p) {
    const Descriptor& d = descriptors_of(table)[p];
    const Units units = piece.units_of(d);
    read_rows(*memory.rows, table, d, threadIdx.x, kThreads);
    __syncthreads();
    with_type(d.type, [&](auto e) { add_units<decltype(e)::value>(units, t); });
    if (p + 1 == piece.last || descriptors_of(table)[p + 1].group != d.group) {
      const WideMemory again(forget(t));
      again.add_up_slices();
      Finish{table, workspace, *again.state, again.sums, 1, gram}(d.group);
    }
  }
}

}  // namespace

cudaError_t launch_gram_wide(const Table& table, const LaunchShape& shape, const Workspace& workspace, double* gram) {
  return launch(gram_wide_kernel, shape, table, workspace, gram);
}

}  // namespace gmd::cuda
