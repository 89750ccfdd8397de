#include "../launch.h"
#include "places.cuh"

namespace gmd::cuda {
namespace {

template <class Access>
__device__ inline void block_apply(const NormTask& task, const void* x, const NormAffine& given,
                                   const NormStatistics& statistics, void* y) {
  using Scalar = typename Access::Scalar;
  const NormBlock block(task.cut, gridDim.x - 1 - blockIdx.x);
  const NormThread thread(task, block);
  const Affine<Scalar, Access::kCount> affine(task, given, statistics, block.sample, thread);
  each_access<Access>(thread, {x}, [&](int64_t place, const auto& raw) {
    Scalar result[Access::kCount];
#pragma unroll
    for (int e = 0; e < Access::kCount; ++e) {
      const Scalar z = (Access::get(raw[0], e) - affine.mean[e]) * affine.scale[e] + affine.bias[e];
      result[e] = z < 0 ? 0 : z;  // NaN stays NaN
    }
    Access::store(y, place, result);
  });
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
