#include "unit_gradients.cuh"

namespace gmd::cuda {
namespace {

constexpr int numbers_of(int t) { return matrix_numbers(t, t) + 3 * t; }

// weights = preference + the shares of all gradients, times their preferences and lengths.
__global__ void __launch_bounds__(kMostThreads, 1)
    upgrad_sum_kernel(const double* grams, int t, const double* preference, const double* shares, double* weights) {
  Numbers numbers;
  const UnitGradients units{numbers.matrix(t, t), numbers.vector(t)};
  double *parts = numbers.vector(t), *found = numbers.vector(t);
  weights += int64_t{blockIdx.x} * t;
  shares += int64_t{blockIdx.x} * t * t;
  if (!units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  for_each(t, [&](int i) { parts[i] = preference[i] * units.lengths[i]; });
  __syncthreads();
  for_each(t, [&](int k) {
    const double added = add_up(t, [&](int i) { return parts[i] * shares[i * t + k]; });
    found[k] = preference[k] + per_length(added, units.lengths[k]);
  });
  __syncthreads();
  const double largest = most_of(t, [&](int i) { return found[i] * units.lengths[i]; });
  const double bound = bound_of(largest, sum_of(t, [&](int i) { return parts[i]; }));
  for_each(t, [&](int i) { weights[i] = found[i] * bound; });
}

}  // namespace

cudaError_t launch_upgrad_sum(const Gramians& grams, const double* preference, const double* shares, double* weights,
                              cudaStream_t stream) {
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(upgrad_sum_kernel, shape, grams.data, grams.t, preference, shares, weights);
}

}  // namespace gmd::cuda
