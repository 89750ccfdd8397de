// What the weightings by quadratic programs share: their shared memory.
#pragma once

#include "interior_point.cuh"
#include "unit_gradients.cuh"

namespace gmd::cuda {

struct Programs {
  UnitGradients units;
  System<2> system;
  double *parts, *offset, *scratch, *found;

  __device__ Programs(Numbers& numbers, int t)
      : units{numbers.matrix(t, t), numbers.vector(t)},
        system(take_system<2>(numbers, t)),
        parts(numbers.vector(t)),
        offset(numbers.vector(t)),
        scratch(numbers.vector(2 * t)),
        found(numbers.vector(t)) {}

  // Finds `found`.
  __device__ void solve(double ridge, const double* offset, const double* normal, double product) const {
    Complementarity{units.cosines, ridge, offset, normal, product}.solve(system, scratch, found);
  }
};
GMD_BOTH constexpr int programs_numbers(int t) { return matrix_numbers(t, t) + system_numbers<2>(t) + 6 * t; }
static_assert(fits_every_gpu(programs_numbers(kMaxObjectives)));

inline LaunchShape programs_shape(int64_t blocks, int t, cudaStream_t stream) {
  return shape_of(blocks, t, programs_numbers(t), programs_numbers(kMaxObjectives), stream);
}

}  // namespace gmd::cuda
