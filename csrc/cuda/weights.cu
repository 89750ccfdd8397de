#include "kernels.h"
#include "launch.h"
#include "weights.cuh"

namespace gmd::cuda {
namespace {

template <int kSide>
__device__ inline void pcgrad_padded(const double* gram, int t, const Order& order, bool mean,
                                     const WeightsResult& result) {
  const WeightsMemory<kSide> memory(reinterpret_cast<double*>(dynamic_shared()));
  pcgrad(gram, blockIdx.x, t, order, mean, memory, result);
}

// One block for each Gramian.
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const double* gram, int t, Order order, double* projections, double* weights, bool mean) {
  const int64_t n = blockIdx.x, orders = n * t * (t - 1);
  gram += n * t * t;
  if (order.given != nullptr) order.given += orders;
  const WeightsResult result{order.drawn == nullptr ? nullptr : order.drawn + orders,
                             projections == nullptr ? nullptr : projections + n * t * t,
                             weights == nullptr ? nullptr : weights + n * 2 * t};
  switch (padded_side(t)) {
    case 16:
      return pcgrad_padded<16>(gram, t, order, mean, result);
    case 32:
      return pcgrad_padded<32>(gram, t, order, mean, result);
    default:
      return pcgrad_padded<64>(gram, t, order, mean, result);
  }
}

}  // namespace

cudaError_t launch_weights(const double* gram, int64_t num_gramians, int num_objectives, const Order& order,
                           double* projections, double* weights, bool mean, cudaStream_t stream) {
  if (num_gramians == 0) return cudaSuccess;
  const LaunchShape shape{static_cast<int>(num_gramians), kThreads, weights_shared_bytes(num_objectives), stream};
  return launch(weights_kernel, shape, gram, num_objectives, order, projections, weights, mean);
}

}  // namespace gmd::cuda
