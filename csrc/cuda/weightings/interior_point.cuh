// Quadratic programs by the interior-point method of gmd_kernels/quadratic.py. As values can be looked at here, it ends
// when nothing changes any more, and goes on where the fixed number of steps there is too small.
#pragma once

#include "elimination.cuh"

namespace gmd::cuda {

// How far to go, at most 1, so that a hundredth of each entry is left; least: what is left of one, the whole way.
__device__ inline double step_to(double least) { return 0.99 / fmax(1 - least, 0.99); }

// z >= 0 that minimises 1/2 z' M z + offset' z, for M = matrix + ridge; with `normal` under normal' z = 1. With
// `product` instead z * (M z + offset) = product.
struct Complementarity {
  Matrix matrix;
  double ridge;
  const double* offset;  // [t]; null: zeros
  const double* normal;  // [t]; null: none
  double product;        // 0: none

  static constexpr double kConverged = 1e-24;

  // scratch: [2 t]. On all threads z, [t], is there afterwards.
  __device__ void solve(const System<2>& system, double* scratch, double* z) const {
    const int t = system.t;
    double* products = scratch + t;
    double here = normal == nullptr ? 1 : 1 / sum_of(t, [&](int i) { return normal[i]; }), dual = 1;
    double mu = product > 0 ? product : 0.2 * here;
    for (int round = 0; round < (product > 0 ? 32 : 100); ++round) {
      const double inverse = 1 / here, ratio = dual * inverse, total = dual + mu * inverse;
      system.fill(matrix, ridge + ratio);
      for_each(t, [&](int i) {
        system.right(0, i) = total - (offset == nullptr ? 0 : offset[i]);
        system.right(1, i) = normal == nullptr ? 0 : normal[i];
      });
      __syncthreads();
      if (!system.solve()) break;  // rounding has made it indefinite: further on there is nothing
      const double multiplier = normal == nullptr ? 0 : multiplier_of(system);
      double next = here, next_dual = dual;
      for_each(t, [&](int i) {
        next = system.solution(0, i) + multiplier * system.solution(1, i);
        next_dual = total - ratio * next;
        scratch[i] = fmin(next * inverse, next_dual / dual);
      });
      __syncthreads();
      const double step = step_to(least_of(t, [&](int i) { return scratch[i]; }));
      here = lerp(here, next, step), dual = lerp(dual, next_dual, step);
      for_each(t, [&](int i) { products[i] = here * dual; });
      __syncthreads();
      if (product == 0) mu = fmax((step - 1) * (step - 1), 1e-3) * sum_of(t, [&](int i) { return products[i]; }) / t;
      const double distance = most_of(t, [&](int i) { return fabs(products[i] - product); });
      if (distance <= (product > 0 ? 1e-14 * product : kConverged)) break;
    }
    for_each(t, [&](int i) { z[i] = here; });
    __syncthreads();
  }

 private:
  __device__ double multiplier_of(const System<2>& system) const {
    const double along = sum_of(system.t, [&](int i) { return normal[i] * system.solution(0, i); });
    return (1 - along) / sum_of(system.t, [&](int i) { return normal[i] * system.solution(1, i); });
  }
};

}  // namespace gmd::cuda
