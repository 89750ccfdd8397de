#include "launch.h"
#include "sketch.cuh"

namespace gmd::cuda {
namespace {

__global__ void __launch_bounds__(kThreads, 2) sketch_kernel(Table table, SketchTask task, void* partials) {
  SketchMemory& memory = *reinterpret_cast<SketchMemory*>(dynamic_shared());
  if (task.type == Type::kDouble) {
    sketch_slice(table, task, memory, static_cast<double*>(partials));
  } else {
    sketch_slice(table, task, memory, static_cast<float*>(partials));
  }
}

}  // namespace

cudaError_t launch_sketch(const Table& table, const SketchTask& task, void* partials, cudaStream_t stream) {
  if (task.blocks == 0) return cudaSuccess;
  const LaunchShape shape{task.ranges * task.slices, kThreads, int{sizeof(SketchMemory)}, stream};
  return launch(sketch_kernel, shape, table, task, partials);
}

}  // namespace gmd::cuda
