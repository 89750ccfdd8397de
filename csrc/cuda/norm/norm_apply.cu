#include "../launch.h"
#include "places.cuh"

namespace gmd::cuda {
namespace {

constexpr int kAhead = 4;  // accesses that a thread waits for at a time

template <class Access>
__device__ inline void block_apply(const NormTask& task, const void* x, const NormAffine& given,
                                   const NormStatistics& statistics, void* y) {
  using Scalar = typename Access::Scalar;
  const NormBlock block(task.cut, gridDim.x - 1 - blockIdx.x);
  const NormThread thread(task, block);
  const Affine<Scalar, Access::kCount> affine(task, given, statistics, block.sample, thread);
  for (int64_t row = thread.row; row < thread.end; row += kAhead * thread.step) {
    typename Access::Raw raw[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (row + u * thread.step < thread.end) raw[u] = Access::load(x, thread.place(row + u * thread.step));
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (row + u * thread.step >= thread.end) continue;
      Scalar result[Access::kCount];
#pragma unroll
      for (int e = 0; e < Access::kCount; ++e) {
        const Scalar z = (Access::get(raw[u], e) - affine.mean[e]) * affine.scale[e] + affine.bias[e];
        result[e] = z < 0 ? 0 : z;  // NaN stays NaN
      }
      Access::store(y, thread.place(row + u * thread.step), result);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 3)
    norm_apply_kernel(NormTask task, const void* x, NormAffine affine, NormStatistics statistics, void* y) {
  with_access(task, [&](auto access) { block_apply<decltype(access)>(task, x, affine, statistics, y); });
}

}  // namespace

cudaError_t launch_norm_apply(const NormTask& task, const void* x, const NormAffine& affine,
                              const NormStatistics& statistics, void* y, cudaStream_t stream) {
  const LaunchShape shape{static_cast<int>(task.cut.blocks(task.shape.samples)), kThreads, 0, stream};
  return launch(norm_apply_kernel, shape, task, x, affine, statistics, y);
}

}  // namespace gmd::cuda
