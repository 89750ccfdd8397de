#include "unit_gradients.cuh"

namespace gmd::cuda {
namespace {

constexpr int numbers_of(int t) { return matrix_numbers(t, t) + 2 * t * t + t; }
static_assert(fits_every_gpu(numbers_of(kMaxObjectives)));

// Gradient i, which meets the others one after the other; a thread has it to itself.
struct Turned {
  const UnitGradients& units;
  double *parts, *products;  // [t, t]: column i is gradient i's, in units of its length, and its products with all
  int t, i;

  __device__ double& part(int k) const { return parts[k * t + i]; }
  __device__ double& product(int k) const { return products[k * t + i]; }

  // Adds as much of unit gradient j as makes the cosine with it the target, if it is less; returns the cosine met.
  __device__ double meet(int j, double target) const {
    const double slope = target / fmax(sqrt(fmax(1 - target * target, 0.0)), 1e-8);
    const double square = add_up(t, [&](int k) { return part(k) * product(k); });
    const double length = sqrt(fmax(square, kNoise));
    // a gradient of which only rounding is left has no direction
    const bool has_direction = square > kNoise && units.lengths[i] > 0 && units.lengths[j] > 0;
    const double cosine = has_direction ? fmin(fmax(product(j) / length, -1.0), 1.0) : target;
    if (cosine < target) {
      const double added = length * (slope * sqrt(1 - cosine * cosine) - cosine);
      part(j) += added;
      for (int k = 0; k < t; ++k) product(k) += added * units.cosines(j, k);
    }
    return cosine;
  }
};

__global__ void __launch_bounds__(kMostThreads, 1)
    gradvac_kernel(const double* grams, int t, const int64_t* order, double beta, double* averages, double* weights) {
  Numbers numbers;
  const UnitGradients units{numbers.matrix(t, t), numbers.vector(t)};
  double *parts = numbers.vector(t * t), *products = numbers.vector(t * t);
  weights += int64_t{blockIdx.x} * t;
  averages += int64_t{blockIdx.x} * t * t;
  order += int64_t{blockIdx.x} * t * (t - 1);
  if (!units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  for_each(t, [&](int i) {
    const Turned turned{units, parts, products, t, i};
    for (int k = 0; k < t; ++k) {
      turned.part(k) = k == i;
      turned.product(k) = units.cosines(k, i);
    }
    for (int step = 0; step < t - 1; ++step) {
      const int j = static_cast<int>(order[i * (t - 1) + step]);
      double& average = averages[i * t + j];
      average = lerp(average, turned.meet(j, average), beta);
    }
  });
  __syncthreads();
  for_each(t, [&](int k) {
    const double length = units.lengths[k];
    const double sum = add_up(t, [&](int i) { return parts[k * t + i] * units.lengths[i]; });
    weights[k] = length > 0 ? sum / length : 1;
  });
}

}  // namespace

cudaError_t launch_gradvac(const Gramians& grams, const int64_t* order, double beta, double* cosines, double* weights,
                           cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(gradvac_kernel, shape, grams.data, grams.t, order, beta, cosines, weights);
}

}  // namespace gmd::cuda
