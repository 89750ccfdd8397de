#include "elimination.cuh"
#include "unit_gradients.cuh"

namespace gmd::cuda {
namespace {

constexpr int kSteps = 32;  // as in gmd_kernels/weightings/_fairgrad.py

constexpr int numbers_of(int t) { return matrix_numbers(t, t) + system_numbers<1>(t) + 3 * t; }
static_assert(fits_every_gpu(numbers_of(kMaxObjectives)));

// z > 0 with z_i (C z)_i^alpha = alone_i^(1 + alpha), by Newton's method.
struct FairGrad {
  Matrix cosines;  // with the ridge
  const System<1>& system;
  double *z, *steps;  // [t]
  double alpha;

  // How far the logarithm of the calling thread's z goes; fixed: the sum of it and alpha times that of C z.
  __device__ double newton(double log_z, double fixed) const {
    const int t = system.t;
    const double own = exp(log_z), dual = exp((fixed - log_z) / alpha);
    for_each(t, [&](int i) { z[i] = own; });
    __syncthreads();
    system.fill(cosines, dual / (alpha * own));
    bool lacks = false;
    for_each(t, [&](int i) {
      const double missing = dual - times_row(cosines, i, z, t);
      // where nothing but rounding is missing, further steps would follow that
      lacks = fabs(missing) > 1e-15 * add_up(t, [&](int k) { return fabs(cosines(i, k)) * z[k]; });
      system.right(0, i) = missing;
    });
    if (!__syncthreads_or(lacks)) return 0;
    const bool positive = system.solve();
    double step = 0;
    for_each(t, [&](int i) {
      if (!positive) return;
      const double growth = system.solution(0, i) / own;
      step = log1p(fmax(growth, 0.0)) - alpha * log1p(fmax(-growth / alpha, 0.0));
    });
    return step;
  }

  // Leaves z.
  __device__ void solve(double alone) const {
    const int t = system.t;
    const double fixed = (1 + alpha) * log(alone);
    double log_z = log(alone);
    for (int round = 0; round < kSteps; ++round) {
      const double step = newton(log_z, fixed);
      log_z += step;
      for_each(t, [&](int i) { steps[i] = fabs(step); });
      __syncthreads();
      if (most_of(t, [&](int i) { return steps[i]; }) <= 1e-7) break;  // the next would be of the square of that
      __syncthreads();
    }
    __syncthreads();
    for_each(t, [&](int i) { z[i] = exp(log_z); });
    __syncthreads();
  }
};

__global__ void __launch_bounds__(kMostThreads, 1)
    fairgrad_kernel(const double* grams, int t, double alpha, double* weights) {
  Numbers numbers;
  const UnitGradients units{numbers.matrix(t, t), numbers.vector(t)};
  const System<1> system = take_system<1>(numbers, t);
  const FairGrad fairgrad{units.cosines, system, numbers.vector(t), numbers.vector(t), alpha};
  weights += int64_t{blockIdx.x} * t;
  if (!units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  const double *lengths = units.lengths, most = units.longest(t), longest = most > 0 ? most : 1;
  const double ridge = ridge_of(units.cosines, system);
  for_each(t, [&](int i) { units.cosines(i, i) += ridge; });
  const double power = (1 - alpha) / (1 + alpha);
  double alone = 1;  // what the solution is for orthogonal gradients
  for_each(t, [&](int i) { alone = lengths[i] > 0 ? pow(lengths[i] / longest, power) : 1; });
  for_each(t, [&](int i) { fairgrad.steps[i] = alone; });
  __syncthreads();
  const double limit = most_of(t, [&](int i) { return fairgrad.steps[i]; });
  __syncthreads();
  fairgrad.solve(alone);
  const double bound = bound_of(most_of(t, [&](int i) { return lengths[i] > 0 ? fairgrad.z[i] : 0; }), limit);
  const double factor = bound * pow(longest, power);
  for_each(t, [&](int i) { weights[i] = per_length(fairgrad.z[i] * factor, lengths[i]); });
}

}  // namespace

cudaError_t launch_fairgrad(const Gramians& grams, double alpha, double* weights, cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(fairgrad_kernel, shape, grams.data, grams.t, alpha, weights);
}

}  // namespace gmd::cuda
