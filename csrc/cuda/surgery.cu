// gram, weights and combine in one launch. What fits into shared memory is read once.
#include "combine.cuh"
#include "kernels.h"
#include "launch.h"
#include "weights.cuh"

namespace gmd::cuda {
namespace {

constexpr int kRows = 8;  // one block on a multiprocessor: more loads under way from each warp than launch_combine has
constexpr int kMergeUnits = 8;  // of a window

// The second pass of a warp, backwards: what was read last is still in the second-level cache, what was read first in
// shared memory.
__device__ inline void merge_piece(const Table& table, const GramMemory& memory, const Weights& weights,
                                   const Keep& kept) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Rows& rows = memory.rows[warp];
  for (int p = memory.state->piece.last - 1; p >= memory.state->piece.first; --p) {
    const Descriptor& d = descriptors_of(table)[p];
    const Units units = memory.state->piece.units_of(d);
    const int64_t first = first_unit_of_warp(d, units.begin, warp);
    if (first >= units.end) continue;
    __syncwarp();
    read_rows(rows, table, d, lane, 32);
    __syncwarp();
    read_weights(rows, weights, d, lane);
    __syncwarp();
    constexpr int kStep = kWarps * kMergeUnits;
    for (int64_t unit = first + (units.end - 1 - first) / kStep * kStep; unit >= first; unit -= kStep) {
      const Window window = window_at(unit, units.end, kMergeUnits, kWarps);
      __syncwarp();
      if (lane == 0) rows.slot -= window.units * slots_of(rows.parameter);
      __syncwarp();
      if (rows.parameter.result == nullptr) continue;
      with_type(rows.parameter.type,
                [&](auto e) { combine_window<decltype(e)::value, kRows>(rows, window, kept, lane); });
    }
  }
}

struct Results {
  double* gram;     // [T, T]
  double* weights;  // [2, T]
};

// From the Gramian, which this block was the last to add to, the weights for all blocks.
__device__ inline void publish_weights(const Table& table, const GramMemory& memory, const Order& order, bool mean,
                                       const Results& results) {
  const WeightsMemory<padded_side(kMaxFused)> scratch(memory.sums);  // the sums of the Gramian are of no more use
  pcgrad(results.gram, 0, table.layout.num_objectives, order, mean, scratch, {order.drawn, nullptr, results.weights});
  __threadfence();
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads, 1)
    surgery_kernel(Table table, Workspace workspace, Order order, bool mean, Results results, int slots_per_warp) {
  const GramMemory memory(table);
  const Finish finish{table, workspace, *memory.state, memory.sums, kWarps, results.gram};
  const int first_slot = static_cast<int>(threadIdx.x) / 32 * slots_per_warp;
  const Keep keep{static_cast<int>(memory.end() - reinterpret_cast<uint4*>(dynamic_shared())) + 32 * first_slot,
                  slots_per_warp};
  // Counts the launches. It cannot change before every block, this one included, has arrived.
  uint32_t* launches = workspace.counters;
  if (threadIdx.x == 0) memory.state->launches = load_acquire(launches);
  const bool last = gram_piece(table, memory, finish, keep);
  if (last) publish_weights(table, memory, order, mean, results);
  if (threadIdx.x == 0) {
    const uint32_t before = memory.state->launches;
    if (last) store_release(launches, before + 1);
    while (load_acquire(launches) == before) __nanosleep(20);
  }
  __syncthreads();
  const Weights weights{results.weights, Weights::Rows::kPerGroup, table.layout.num_objectives, 1};
  merge_piece(table, memory, weights, keep);
}

}  // namespace

cudaError_t launch_surgery(const Table& table, const Device& device, const Workspace& workspace, const Order& order,
                           bool mean, double* gram, double* weights, cudaStream_t stream) {
  if (!fits_surgery(table.layout, device)) return cudaErrorInvalidValue;
  const Residency residency = surgery_residency(table.layout, device);
  LaunchShape shape{gram_blocks(table.layout, device), kThreads, residency.shared_bytes, stream};
  shape.cooperative = true;
  return launch(surgery_kernel, shape, table, workspace, order, mean, Results{gram, weights},
                residency.bytes_per_warp / kUnitBytes);
}

}  // namespace gmd::cuda
