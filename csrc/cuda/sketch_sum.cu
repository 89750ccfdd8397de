#include "device.cuh"
#include "kernels.h"
#include "launch.h"

namespace gmd::cuda {
namespace {

// A thread for each bucket, the slices in their order.
template <class Scalar>
__device__ inline void add_slices(const SketchTask& task, const Scalar* partials, Scalar* sketch, int64_t bucket) {
  Scalar sum = global(sketch)[bucket];
  for (int slice = 0; slice < task.slices; ++slice) sum += global(partials)[slice * task.d + bucket];
  global(sketch)[bucket] = sum;
}

__global__ void __launch_bounds__(kThreads) sketch_sum_kernel(SketchTask task, const void* partials, void* sketch) {
  const int64_t bucket = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (bucket >= task.d) return;
  if (task.type == Type::kDouble) {
    add_slices(task, static_cast<const double*>(partials), static_cast<double*>(sketch), bucket);
  } else {
    add_slices(task, static_cast<const float*>(partials), static_cast<float*>(sketch), bucket);
  }
}

}  // namespace

cudaError_t launch_sketch_sum(const SketchTask& task, const void* partials, void* sketch, cudaStream_t stream) {
  if (task.blocks == 0) return cudaSuccess;
  const LaunchShape shape{static_cast<int>((task.d + kThreads - 1) / kThreads), kThreads, 0, stream};
  return launch(sketch_sum_kernel, shape, task, partials, sketch);
}

}  // namespace gmd::cuda
