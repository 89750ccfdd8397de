#include "programs.cuh"

namespace gmd::cuda {
namespace {

__device__ inline void mgda(const Programs& with, int t, double* weights) {
  const UnitGradients& units = with.units;
  const double shortest = units.shortest(t);
  double* relative = with.parts;  // weights = relative * z keeps z of order one
  for_each(t, [&](int i) { relative[i] = shortest < kInfinite ? per_length(shortest, units.lengths[i]) : 1; });
  __syncthreads();
  with.solve(ridge_of(units.cosines, with.system), nullptr, relative, 0);
  const double sum = sum_of(t, [&](int i) { return relative[i] * with.found[i]; });
  for_each(t, [&](int i) { weights[i] = relative[i] * with.found[i] / sum; });
}

__device__ inline void nash_mtl(const Programs& with, int t, double max_norm, double* weights) {
  const UnitGradients& units = with.units;
  with.solve(ridge_of(units.cosines, with.system), nullptr, nullptr, 1);
  double* shares = with.parts;
  for_each(t, [&](int i) { shares[i] = units.lengths[i] > 0 ? with.found[i] : 0; });
  __syncthreads();
  double factor = bound_of(most_of(t, [&](int i) { return shares[i]; }), 1);
  if (max_norm > 0) {
    const double square =
        factor * factor * sum_of(t, [&](int i) { return shares[i] * times_row(units.cosines, i, shares, t); });
    factor *= max_norm / sqrt(fmax(square, max_norm * max_norm));
  }
  for_each(t, [&](int i) { weights[i] = per_length(shares[i] * factor, units.lengths[i]); });
}

__device__ inline void dualproj(const Programs& with, int t, const double* preference, double* weights) {
  const UnitGradients& units = with.units;
  for_each(t, [&](int i) { with.parts[i] = preference[i] * units.lengths[i]; });
  __syncthreads();
  const double longest = most_of(t, [&](int i) { return with.parts[i]; }), unit = longest > 0 ? longest : 1;
  const double sum = sum_of(t, [&](int i) { return with.parts[i]; });
  for_each(t, [&](int i) { with.offset[i] = times_row(units.cosines, i, with.parts, t) / unit; });
  with.solve(ridge_of(units.cosines, with.system), with.offset, nullptr, 0);
  const auto weight = [&](int i) { return preference[i] + per_length(longest * with.found[i], units.lengths[i]); };
  const double bound = bound_of(most_of(t, [&](int i) { return weight(i) * units.lengths[i]; }), sum);
  for_each(t, [&](int i) { weights[i] = weight(i) * bound; });
}

__global__ void __launch_bounds__(kMostThreads, 1)
    program_kernel(const double* grams, int t, Program program, const double* preference, double max_norm,
                   double* weights) {
  Numbers numbers;
  const Programs with(numbers, t);
  weights += int64_t{blockIdx.x} * t;
  if (!with.units.read(grams + int64_t{blockIdx.x} * t * t, t)) return write_nan(weights, t);
  if (program == Program::kMgda) {
    mgda(with, t, weights);
  } else if (program == Program::kNashMtl) {
    nash_mtl(with, t, max_norm, weights);
  } else {
    dualproj(with, t, preference, weights);
  }
}

}  // namespace

cudaError_t launch_program(const Gramians& grams, Program program, const double* preference, double max_norm,
                           double* weights, cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  return launch(program_kernel, programs_shape(grams.count, grams.t, stream), grams.data, grams.t, program, preference,
                max_norm, weights);
}

}  // namespace gmd::cuda
