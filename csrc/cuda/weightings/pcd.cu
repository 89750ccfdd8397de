#include "programs.cuh"

namespace gmd::cuda {
namespace {

constexpr double kDecay = 0.999, kEpsilon = 1e-8;  // of the moving averages, as published

constexpr int numbers_of(int t) { return programs_numbers(t) + 3 * t; }
static_assert(fits_every_gpu(numbers_of(kMaxObjectives)));

// The square of gradient i's length, or its average over the steps, without bias; updates that.
__device__ inline double averaged(double* state, int i, double square, int t) {
  if (state == nullptr) return square;
  const double average = lerp(state[i], square, 1 - kDecay), count = state[t + i] + 1;
  state[i] = average;
  state[t + i] = count;
  return average / (1 - pow(kDecay, fmax(count, 1.0)));
}

struct Pcd {
  const Programs& with;
  int t, primary;
  double *ours, *lacking, *across;  // [t]

  // Puts the row and column of the primary objective aside, and those of the identity in their place.
  __device__ void set_apart() const {
    const Matrix& cosines = with.units.cosines;
    for_each(t, [&](int i) { across[i] = cosines(i, primary); });
    __syncthreads();
    for_each(t, [&](int i) { cosines(i, primary) = cosines(primary, i) = i == primary; });
    __syncthreads();
  }

  // (C parts)_i of all cosines, from those without the primary objective.
  __device__ double product(const double* parts, int i) const {
    const double among = times_row(with.units.cosines, i, parts, t);
    if (i != primary) return among + across[i] * parts[primary];
    return across[i] * parts[i] + add_up(t, [&](int k) { return k == primary ? 0 : across[k] * parts[k]; });
  }

  // The direction, of length one, as parts of the unit gradients; zeros where it is zero.
  __device__ void nearest(double* parts) const {
    const double most = most_of(t, [&](int i) { return fabs(lacking[i]); }), unit = most > 0 ? most : 1;
    const double ridge = ridge_of(with.units.cosines, with.system);
    for_each(t, [&](int i) { with.offset[i] = -lacking[i] / unit; });
    __syncthreads();
    with.solve(ridge, with.offset, nullptr, 0);
    double* added = with.found;
    if (threadIdx.x == 0) added[primary] = 0;
    __syncthreads();
    for_each(t, [&](int i) { parts[i] = ours[i] / unit + added[i]; });
    __syncthreads();
    const double slack =
        least_of(t, [&](int i) { return times_row(with.units.cosines, i, added, t) + with.offset[i]; });
    const double square = sum_of(t, [&](int i) { return parts[i] * product(parts, i); });
    const double sum = sum_of(t, [&](int i) { return parts[i]; });
    const double length = inverse_root(square), longest = sqrt(fmax(square, 1.0)) * kLargest;
    const bool feasible = slack >= -fmax(100 * ridge, 1e-5) && sum_of(t, [&](int i) { return added[i]; }) <= longest;
    const bool told = square > fmax(10 * ridge, 1 / (kLargest * kLargest)) * sum * sum;
    __syncthreads();
    for_each(t, [&](int i) {
      const double alone = i == primary, nearest = told ? parts[i] * length : 0;
      parts[i] = feasible ? nearest : alone;
    });
  }
};

__global__ void __launch_bounds__(kMostThreads, 1)
    pcd_kernel(const double* grams, int t, PcdOptions options, double* weights) {
  Numbers numbers;
  const Programs with(numbers, t);
  const Pcd pcd{with, t, options.primary, numbers.vector(t), numbers.vector(t), numbers.vector(t)};
  double* state = options.state == nullptr ? nullptr : options.state + int64_t{blockIdx.x} * 2 * t;
  weights += int64_t{blockIdx.x} * t;
  if (!with.units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  const double *lengths = with.units.lengths, length = lengths[options.primary];
  double* normed = with.parts;
  for_each(t, [&](int i) { normed[i] = lengths[i] / sqrt(averaged(state, i, lengths[i] * lengths[i], t) + kEpsilon); });
  pcd.set_apart();
  for_each(t, [&](int i) {
    const bool is_primary = i == options.primary;
    const double share = options.shares == nullptr ? options.tau : options.shares[i];
    pcd.ours[i] = is_primary ? normed[i] : 0;
    pcd.lacking[i] = is_primary ? 0 : share * normed[i] - pcd.across[i] * normed[options.primary];
  });
  __syncthreads();
  pcd.nearest(with.parts);
  for_each(t, [&](int i) { weights[i] = length > 0 ? per_length(with.parts[i] * length, lengths[i]) : 0; });
}

}  // namespace

cudaError_t launch_pcd(const Gramians& grams, const PcdOptions& options, double* weights, cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(pcd_kernel, shape, grams.data, grams.t, options, weights);
}

}  // namespace gmd::cuda
