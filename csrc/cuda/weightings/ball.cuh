// The best for the worst-off within a ball: `maximin_in_ball` of gmd_kernels/quadratic.py.
#pragma once

#include "interior_point.cuh"

namespace gmd::cuda {

// x >= 0 that maximises the level in M x + offset >= level * normal, under x' M x <= radius^2: x = w / s.
struct MaximinInBall {
  Matrix matrix;         // M, positive definite
  const double* offset;  // [t]
  const double* normal;  // [t]
  double radius;
  const System<3>& system;
  double *base, *slope;  // [t]
  double* scratch;       // [3 t]

  static constexpr double kSmallest = 1e-17;  // of w * y
  static constexpr int kRounds = 100;

  __device__ double along_normal(int side) const {
    return sum_of(system.t, [&](int i) { return normal[i] * system.solution(side, i); });
  }

  __device__ double total_of(const double* numbers) const {
    return sum_of(system.t, [&](int i) { return numbers[i]; });
  }

  // Where the Newton step leads: new w = base + s * slope; returns the new s.
  __device__ double newton(double total, double ratio, double s, double mu) const {
    const int t = system.t;
    system.fill(matrix, ratio);
    for_each(t, [&](int i) {
      system.right(0, i) = total;
      system.right(1, i) = normal[i];
      system.right(2, i) = offset[i];
    });
    __syncthreads();
    const bool positive = system.solve();
    const double scale = along_normal(1), multiplier = (1 - along_normal(0)) / scale, shift = along_normal(2) / scale;
    for_each(t, [&](int i) {
      base[i] = system.solution(0, i) + system.solution(1, i) * multiplier;
      slope[i] = system.solution(1, i) * shift - system.solution(2, i);
    });
    __syncthreads();
    for_each(t, [&](int i) {
      const double of_base = times_row(matrix, i, base, t), of_slope = times_row(matrix, i, slope, t);
      scratch[i] = base[i] * of_base;
      scratch[t + i] = base[i] * of_slope;
      scratch[2 * t + i] = slope[i] * of_slope;
    });
    __syncthreads();
    // w' M w + 2 mu = (radius * s)^2 in 1 / s: its larger root
    const double a = total_of(scratch + 2 * t) - radius * radius, b = total_of(scratch + t);
    const double c = total_of(scratch) + 2 * mu;
    const double shrinkage = s * (sqrt(fmax(b * b - a * c, 0.0)) - b) / c;
    return positive ? s / fmin(fmax(shrinkage, 0.25), 3.0) : not_a_number();
  }

  // The calling thread's dual at the start: as large as M w + s * offset allows, the least is 1.
  __device__ double first_dual(double here, double s) const {
    const int t = system.t;
    for_each(t, [&](int i) { base[i] = here; });
    __syncthreads();
    for_each(t, [&](int i) { scratch[i] = times_row(matrix, i, base, t) + s * offset[i]; });
    __syncthreads();
    const double least = least_of(t, [&](int i) { return scratch[i]; });
    double dual = 1;
    for_each(t, [&](int i) { dual = scratch[i] - least + 1; });
    __syncthreads();
    return dual;
  }

  // On all threads x, [t], is there afterwards; zeros where rounding has made the matrix indefinite.
  __device__ void solve(double* x) const {
    const int t = system.t;
    double here = 1 / total_of(normal), s = 0.3 / radius, centring = 0.2;
    double dual = first_dual(here, s);
    for_each(t, [&](int i) { scratch[i] = here * dual; });
    __syncthreads();
    for (int round = 0; round < kRounds; ++round) {
      const double mu = fmax(centring * total_of(scratch) / t, kSmallest);
      const double ratio = dual / here, total = dual + mu / here;
      const double next_s = newton(total, ratio, s, mu);
      double next = here, next_dual = dual;
      for_each(t, [&](int i) {
        next = base[i] + next_s * slope[i];
        next_dual = total - ratio * next;
        base[i] = fmin(next / here, next_dual / dual);
      });
      __syncthreads();
      const double step = step_to(least_of(t, [&](int i) { return base[i]; }));
      here = lerp(here, next, step), dual = lerp(dual, next_dual, step), s = lerp(s, next_s, step);
      centring = fmax((step - 1) * (step - 1), 0.1);
      for_each(t, [&](int i) { scratch[i] = here * dual; });
      __syncthreads();
      if (most_of(t, [&](int i) { return scratch[i]; }) <= 2 * kSmallest) break;
    }
    finish(here / s, x);
  }

 private:
  // Into the ball, where rounding has led out of it.
  __device__ void finish(double own, double* x) const {
    const int t = system.t;
    for_each(t, [&](int i) { x[i] = own; });
    __syncthreads();
    for_each(t, [&](int i) { scratch[i] = own * times_row(matrix, i, x, t); });
    __syncthreads();
    const double factor = radius / fmax(sqrt(fmax(total_of(scratch), 0.0)), radius);
    bool finite = true;
    for_each(t, [&](int) { finite = fabs(own * factor) < kInfinite; });
    finite = !__syncthreads_or(!finite);
    for_each(t, [&](int i) { x[i] = finite ? own * factor : 0; });
    __syncthreads();
  }
};

}  // namespace gmd::cuda
