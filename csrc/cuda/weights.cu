#include "kernels.h"
#include "launch.h"
#include "weights.cuh"

namespace gmd::cuda {
namespace {

constexpr int kWeightsThreads = 128;  // one for each objective at least

// One block for each Gramian.
__global__ void __launch_bounds__(kWeightsThreads)
    weights_kernel(const double* gram, int t, Order order, double* projections, double* weights, bool mean) {
  const WeightsMemory memory(dynamic_shared(), t);
  const int64_t n = blockIdx.x, orders = n * t * (t - 1);
  if (order.given != nullptr) order.given += orders;
  const WeightsResult result{order.drawn == nullptr ? nullptr : order.drawn + orders,
                             projections == nullptr ? nullptr : projections + n * t * t,
                             weights == nullptr ? nullptr : weights + n * 2 * t};
  pcgrad(gram + n * t * t, n, t, order, mean, memory, result);
}

}  // namespace

cudaError_t launch_weights(const double* gram, int64_t num_gramians, int num_objectives, const Order& order,
                           double* projections, double* weights, bool mean, cudaStream_t stream) {
  if (num_gramians == 0) return cudaSuccess;
  const LaunchShape shape{static_cast<int>(num_gramians), kWeightsThreads, weights_shared_bytes(num_objectives),
                          stream};
  return launch(weights_kernel, shape, gram, num_objectives, order, projections, weights, mean);
}

}  // namespace gmd::cuda
