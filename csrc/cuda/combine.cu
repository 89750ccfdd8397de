#include <climits>

#include "combine.cuh"
#include "kernels.h"
#include "launch.h"

namespace gmd::cuda {
namespace {

constexpr int kRows = 4;  // with two blocks on a multiprocessor, as many loads under way as there is use for

__global__ void __launch_bounds__(kThreads, 2) combine_kernel(Table table, Weights weights) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Rows& of_warp = reinterpret_cast<Rows*>(dynamic_shared())[warp];
  const Piece piece = piece_of_block(table);
  if (lane == 0) of_warp.slot = 0;
  for (int p = piece.first; p < piece.last; ++p) {
    const Descriptor d = descriptors_of(table)[p];
    const Units units = piece.units_of(d);
    const int64_t first = first_unit_of_warp(d, units.begin, warp);
    if (d.result == nullptr || first >= units.end) continue;
    __syncwarp();
    read_rows(of_warp, table, d, lane, 32);
    __syncwarp();
    read_weights(of_warp, weights, d, lane);
    __syncwarp();
    const Window window = window_at(first, units.end, INT_MAX, kWarps);
    with_type(d.type, [&](auto e) {
      constexpr Type E = decltype(e)::value;
      const int begin = d.count == 1   ? combine_few<E, 1>(of_warp, window, lane)
                        : d.count == 2 ? combine_few<E, 2>(of_warp, window, lane)
                                       : 0;
      combine_window<E, kRows>(of_warp, window, Keep{}, lane, begin);
    });
  }
}

}  // namespace

cudaError_t launch_combine(const Table& table, const Device& device, const Weights& weights, cudaStream_t stream) {
  if (table.layout.units == 0) return cudaSuccess;
  const LaunchShape shape{combine_blocks(table.layout, device), kThreads, kWarps * int{sizeof(Rows)}, stream};
  return launch(combine_kernel, shape, table, weights);
}

}  // namespace gmd::cuda
