#include "programs.cuh"

namespace gmd::cuda {
namespace {

// Row i of shares: what is added to gradient i until it conflicts with none, as parts of the unit gradients.
__global__ void __launch_bounds__(kMostThreads, 1) upgrad_kernel(const double* grams, int t, double* shares) {
  Numbers numbers;
  const Programs with(numbers, t);
  const int64_t gramian = blockIdx.x / t;
  const int row = blockIdx.x % t;
  if (!with.units.read(grams + gramian * t * t, t)) return;
  for_each(t, [&](int i) { with.offset[i] = with.units.cosines(row, i); });
  with.solve(ridge_of(with.units.cosines, with.system), with.offset, nullptr, 0);
  for_each(t, [&](int i) { shares[int64_t{blockIdx.x} * t + i] = with.found[i]; });
}

}  // namespace

cudaError_t launch_upgrad(const Gramians& grams, const double* preference, double* shares, double* weights,
                          cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const cudaError_t error =
      launch(upgrad_kernel, programs_shape(grams.count * grams.t, grams.t, stream), grams.data, grams.t, shares);
  return error == cudaSuccess ? launch_upgrad_sum(grams, preference, shares, weights, stream) : error;
}

}  // namespace gmd::cuda
