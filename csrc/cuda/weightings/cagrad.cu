#include "ball.cuh"
#include "unit_gradients.cuh"

namespace gmd::cuda {
namespace {

constexpr int numbers_of(int t) { return matrix_numbers(t, t) + system_numbers<3>(t) + 9 * t; }
static_assert(fits_every_gpu(numbers_of(kMaxObjectives)));

// The direction near the mean gradient that is best for the worst-off.
__global__ void __launch_bounds__(kMostThreads, 1)
    cagrad_kernel(const double* grams, int t, double c, double* weights) {
  Numbers numbers;
  const UnitGradients units{numbers.matrix(t, t), numbers.vector(t)};
  const System<3> system = take_system<3>(numbers, t);
  double *offset = numbers.vector(t), *normal = numbers.vector(t), *base = numbers.vector(t);
  double *slope = numbers.vector(t), *scratch = numbers.vector(3 * t), *toward = numbers.vector(t);
  weights += int64_t{blockIdx.x} * t;
  if (!units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  const double longest = units.longest(t), shortest = units.shortest(t), *lengths = units.lengths;
  if (c == 0 || longest == 0) return for_each(t, [&](int i) { weights[i] = 1.0 / t; });
  double* to_mean = scratch;  // the products of unit gradients with the mean, in units of the longest
  for_each(t, [&](int i) { to_mean[i] = times_row(units.cosines, i, lengths, t) / longest / t; });
  __syncthreads();
  const double square = sum_of(t, [&](int i) { return lengths[i] / longest * to_mean[i]; }) / t;
  const double length = sqrt(fmax(square, 0.0)), unit = length > 0 ? length : 1;
  for_each(t, [&](int i) {
    offset[i] = lengths[i] > 0 ? fmin(fmax(to_mean[i] / unit, -1.0), 1.0) : 2 + c;
    normal[i] = per_length(shortest, lengths[i]);
  });
  const double ridge = fmax(ridge_of(units.cosines, system), 1 / (kLargest * kLargest));
  for_each(t, [&](int i) { units.cosines(i, i) += ridge; });
  __syncthreads();
  MaximinInBall{units.cosines, offset, normal, c, system, base, slope, scratch}.solve(toward);
  for_each(t, [&](int i) { weights[i] = 1.0 / t + per_length(length * longest * toward[i], lengths[i]); });
}

}  // namespace

cudaError_t launch_cagrad(const Gramians& grams, double c, double* weights, cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(cagrad_kernel, shape, grams.data, grams.t, c, weights);
}

}  // namespace gmd::cuda
