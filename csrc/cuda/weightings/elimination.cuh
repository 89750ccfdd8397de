// Positive definite systems by elimination, L D L', whose right sides are rows below the matrix.
#pragma once

#include "block_math.cuh"

namespace gmd::cuda {

// (matrix + diagonal) x = right, for a few right sides at once.
template <int kSides>
struct System {
  Matrix a;           // [t + kSides, t]: the lower triangle, below it right sides; afterwards what is left of them
  double* inverses;   // [t], of D
  double* solutions;  // [kSides, t]
  int t;

  __device__ double& right(int side, int i) const { return a(t + side, i); }
  __device__ double solution(int side, int i) const { return solutions[side * t + i]; }

  // added: what the calling thread's place of the diagonal gets. A barrier has to follow.
  __device__ void fill(const Matrix& matrix, double added) const {
    for_entries(t, t, [&](int i, int j) {
      if (j < i) a(i, j) = matrix(i, j);
    });
    for_each(t, [&](int i) { a(i, i) = matrix(i, i) + added; });
  }

  // Makes the matrix L D, row by row of right sides the solution of L y = right. Whether it is positive definite.
  __device__ bool eliminate(int sides) const {
    const int step = blockDim.x / kColumns;
    bool positive = true;
    for (int k = 0; k < t; ++k) {
      const double pivot = a(k, k), inverse = 1 / pivot;
      positive &= pivot > 0;
      if (threadIdx.x == 0) inverses[k] = inverse;
      for (int i = k + 1 + threadIdx.x / kColumns; i < t + sides; i += step) {
        const double factor = a(i, k) * inverse;
        for (int j = k + 1 + threadIdx.x % kColumns; j <= min(i, t - 1); j += kColumns) a(i, j) -= factor * a(j, k);
      }
      __syncthreads();
    }
    return positive;
  }

  // Solves D L' x = y, from the last entry to the first.
  __device__ void substitute() const {
    const int side = threadIdx.x / kColumns;
    for (int k = t - 1; k >= 0; --k) {
      if (side < kSides) {
        const double x = right(side, k) * inverses[k];
        for (int j = threadIdx.x % kColumns; j < k; j += kColumns) right(side, j) -= a(k, j) * x;
        if (threadIdx.x % kColumns == 0) solutions[side * t + k] = x;
      }
      __syncthreads();
    }
  }

  // After `fill`, right sides and a barrier.
  __device__ bool solve() const {
    const bool positive = eliminate(kSides);
    substitute();
    return positive;
  }
};
template <int kSides>
GMD_BOTH constexpr int system_numbers(int t) {
  return matrix_numbers(t + kSides, t) + (1 + kSides) * t;
}

template <int kSides>
__device__ inline System<kSides> take_system(Numbers& numbers, int t) {
  return {numbers.matrix(t + kSides, t), numbers.vector(t), numbers.vector(kSides * t), t};
}

// What to add to the diagonal of a matrix with a diagonal of about one: see `ridge` of gmd_kernels/quadratic.py.
template <int kSides>
__device__ inline double ridge_of(const Matrix& matrix, const System<kSides>& system) {
  double level = kNoise;
  for (int failed = 0; failed < 5; ++failed) {
    system.fill(matrix, level);
    __syncthreads();
    if (system.eliminate(0)) return failed == 0 ? kNoise : 10 * level;
    level *= 100;
  }
  return 10 * level;
}

}  // namespace gmd::cuda
