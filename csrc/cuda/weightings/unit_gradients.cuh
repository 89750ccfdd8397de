// Gramians as they come, and those of the unit gradients.
#pragma once

#include "block_math.cuh"

namespace gmd::cuda {

// Copies a Gramian; whether it is finite, on every thread.
__device__ inline bool read_gram(const double* gram, int t, const Matrix& to) {
  bool finite = true;
  for_entries(t, t, [&](int i, int j) {
    const double product = gram[i * t + j];
    to(i, j) = product;
    finite &= fabs(product) < kInfinite;
  });
  return !__syncthreads_or(!finite);
}

// The Gramian of the unit gradients, and lengths; a gradient of zero counts as orthogonal to all others.
struct UnitGradients {
  Matrix cosines;
  double* lengths;

  // Whether the Gramian is finite, on every thread; if it is not, there is nothing here.
  __device__ bool read(const double* gram, int t) const {
    if (!read_gram(gram, t, cosines)) return false;
    for_each(t, [&](int i) { lengths[i] = sqrt(fmax(cosines(i, i), 0.0)); });
    __syncthreads();
    for_entries(t, t, [&](int i, int j) {
      const double a = lengths[i], b = lengths[j];
      const double cosine = cosines(i, j) / (a > 0 ? a : 1) / (b > 0 ? b : 1);
      cosines(i, j) = i == j && a == 0 ? cosine + 1 : cosine;
    });
    __syncthreads();
    return true;
  }

  __device__ double longest(int t) const {
    return most_of(t, [&](int i) { return lengths[i]; });
  }
  // Of those that are not zero; infinite if all are.
  __device__ double shortest(int t) const {
    return least_of(t, [&](int i) { return lengths[i] > 0 ? lengths[i] : kInfinite; });
  }
};

// A weight of the gradient from that of the unit gradient.
__device__ inline double per_length(double share, double length) { return length > 0 ? share / length : 0; }

// What to multiply weights with so that none is above kLargest times the limit.
__device__ inline double bound_of(double largest, double limit) {
  return largest > kLargest * limit ? kLargest * limit / largest : 1;
}

__device__ inline void write_nan(double* weights, int t) {
  for_each(t, [&](int i) { weights[i] = not_a_number(); });
}

}  // namespace gmd::cuda
