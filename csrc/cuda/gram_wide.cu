// The Gramians of more than kMaxFused objectives: the warps of a block share the pairs of one window.
#include "gram.cuh"
#include "launch.h"

namespace gmd::cuda {
namespace {

constexpr int kSide = 8;        // objectives of a block of products: 64 of them in registers
constexpr int kWideWindow = 4;  // units; 64 rows of them stay in the first-level cache under all pairs

// The rows of a parameter, cut into as few parts of at most kSide as there have to be.
struct Parts {
  int rows, count;
  __device__ explicit Parts(int rows) : rows(rows), count((rows + kSide - 1) / kSide) {}
  __device__ int begin(int part) const { return part * rows / count; }
};

struct WideMemory {
  BlockState* state;
  double* sums;  // [pairs]
  Rows* rows;    // of all warps

  __device__ explicit WideMemory(int t)
      : state(reinterpret_cast<BlockState*>(dynamic_shared())),
        sums(reinterpret_cast<double*>(state + 1)),
        rows(reinterpret_cast<Rows*>(sums + num_pairs(t))) {}
  // Whether each part has to be multiplied in float64. The weights have no other use here.
  __device__ double* wide() const { return rows->weights; }
};

template <Type E>
__device__ inline void add_diagonal(const Rows& rows, const Parts& parts, int part, const Window& window, double* sums,
                                    double* wide, int lane) {
  const int begin = parts.begin(part), end = parts.begin(part + 1);
  bool added = false;
  if constexpr (E != Type::kDouble) {
    added = padded_rows(rows.parameter.count) == 4
                ? add_products<E, 4>(rows, begin, end, window, sums, Keep{}, lane)
                : add_products<E, kSide>(rows, begin, end, window, sums, Keep{}, lane);
  }
  if (!added) add_exact<E>(rows, begin, end, begin, end, window, sums, lane);
  if (lane == 0) wide[part] = !added;
}

// The parts with themselves first, since that tells which ones float32 is too narrow for.
template <Type E>
__device__ inline void add_wide_window(const Rows& rows, const Window& window, double* sums, double* wide, int warp,
                                       int lane) {
  const Parts parts(rows.parameter.count);
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
        add_rectangle<E>(rows, p_begin, p_end, q_begin, q_end, window, sums, lane);
      }
    }
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads, 1) gram_wide_kernel(Table table, Workspace workspace, double* gram) {
  const int t = table.layout.num_objectives, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WideMemory memory(t);
  const Piece piece = piece_of_block(table);
  find_spans(table, piece, *memory.state);
  const Finish finish{table, workspace, *memory.state, memory.sums, 1, gram};
  clear_empty_groups(table, gram);
  if (threadIdx.x == 0) memory.rows->slot = 0;
  for (int i = threadIdx.x; i < num_pairs(t); i += kThreads) memory.sums[i] = 0;
  for (int p = piece.first; p < piece.last; ++p) {
    const Descriptor d = descriptors_of(table)[p];
    const Units units = piece.units_of(d);
    read_rows(*memory.rows, table, d, threadIdx.x, kThreads);
    __syncthreads();
    for (int64_t unit = units.begin; unit < units.end; unit += kWideWindow) {
      const Window window = window_at(unit, units.end, kWideWindow, 1);
      with_type(d.type, [&](auto e) {
        add_wide_window<decltype(e)::value>(*memory.rows, window, memory.sums, memory.wide(), warp, lane);
      });
    }
    if (p + 1 == piece.last || descriptors_of(table)[p + 1].group != d.group) finish(d.group);
  }
}

}  // namespace

cudaError_t launch_gram_wide(const Table& table, const LaunchShape& shape, const Workspace& workspace, double* gram) {
  return launch(gram_wide_kernel, shape, table, workspace, gram);
}

}  // namespace gmd::cuda
