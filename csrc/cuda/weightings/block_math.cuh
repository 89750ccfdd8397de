// What a block does with vectors of up to 64 numbers and matrices of them in shared memory, in fixed orders of sums.
#pragma once

#include <limits>

#include "../device.cuh"
#include "../launch.h"
#include "weightings.h"

namespace gmd::cuda {

constexpr int kMostThreads = 256;  // of a block; 64 at least, so that every objective has a thread of its own
constexpr int kColumns = 16;       // the threads of a block as a tile of the matrix: so many in a row of it

// As gmd_kernels/quadratic.py has them, which says why.
constexpr double kNoise = 1e-12, kLargest = 1e4;

__device__ inline double not_a_number() { return __longlong_as_double(0x7ff8000000000000); }
constexpr double kInfinite = std::numeric_limits<double>::infinity();

#ifdef __CUDACC__
__device__ inline double inverse_root(double x) { return rsqrt(x); }
#else
inline double inverse_root(double x) { return 1 / std::sqrt(x); }
#endif

__device__ inline double lerp(double from, double to, double weight) {
  return weight < 0.5 ? from + weight * (to - from) : to - (to - from) * (1 - weight);
}

// Rows are an odd number of places apart: columns lie in different banks too.
struct Matrix {
  double* data;
  int pitch;

  __device__ double& operator()(int i, int j) const { return data[i * pitch + j]; }
};
GMD_BOTH constexpr int pitch_of(int t) { return t | 1; }

// Hands out shared memory.
class Numbers {
 public:
  __device__ Numbers() : next_(reinterpret_cast<double*>(dynamic_shared())) {}
  __device__ double* vector(int t) {
    double* given = next_;
    next_ += t;
    return given;
  }
  __device__ Matrix matrix(int rows, int t) { return {vector(rows * pitch_of(t)), pitch_of(t)}; }

 private:
  double* next_;
};
GMD_BOTH constexpr int matrix_numbers(int rows, int t) { return rows * pitch_of(t); }

// A launch of a block for each of `blocks`, with so many numbers of shared memory, `most` of them for 64 objectives.
// 99 KB is what a block may have of every GPU since the first that has asynchronous copies.
inline LaunchShape shape_of(int64_t blocks, int t, int numbers, int most, cudaStream_t stream) {
  constexpr int kWithoutAsking = 48 << 10;
  const int bytes = numbers * static_cast<int>(sizeof(double));
  const int threads = t <= 8 ? 64 : t <= 32 ? 128 : kMostThreads;  // two to four steps of a tile are a matrix
  return {static_cast<int>(blocks), threads, bytes <= kWithoutAsking ? bytes : most * static_cast<int>(sizeof(double)),
          stream};
}
constexpr bool fits_every_gpu(int numbers) { return numbers * sizeof(double) <= size_t{99} << 10; }

// f(i, j) for every entry of a matrix.
template <class F>
__device__ inline void for_entries(int rows, int columns, F f) {
  const int step = blockDim.x / kColumns;
  for (int i = threadIdx.x / kColumns; i < rows; i += step) {
    for (int j = threadIdx.x % kColumns; j < columns; j += kColumns) f(i, j);
  }
}

// f(i) for every entry of a vector, by a thread of its own.
template <class F>
__device__ inline void for_each(int t, F f) {
  if (static_cast<int>(threadIdx.x) < t) f(static_cast<int>(threadIdx.x));
}

// f(0) .. f(t - 1) brought together by `join`, on every thread the same; each warp does it for itself.
template <class F, class Join>
__device__ inline double over_all(int t, double none, F f, Join join) {
  double found = none;
#pragma unroll 1  // two rounds at most: code that is not there need not be fetched
  for (int i = threadIdx.x % 32; i < t; i += 32) found = join(found, f(i));
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) found = join(found, __shfl_xor_sync(0xffffffffu, found, offset));
  return found;
}
template <class F>
__device__ inline double sum_of(int t, F f) {
  return over_all(t, 0.0, f, [](double a, double b) { return a + b; });
}
template <class F>
__device__ inline double least_of(int t, F f) {
  return over_all(t, kInfinite, f, [](double a, double b) { return fmin(a, b); });
}
template <class F>
__device__ inline double most_of(int t, F f) {
  return over_all(t, -kInfinite, f, [](double a, double b) { return fmax(a, b); });
}

// What a row, or a column, of numbers f(0) .. f(t - 1) adds up to, by one thread.
template <class F>
__device__ inline double add_up(int t, F f) {
  double even = 0, odd = 0;  // two sums, that do not wait for each other
  for (int k = 0; k + 1 < t; k += 2) {
    even += f(k);
    odd += f(k + 1);
  }
  return t % 2 == 1 ? even + f(t - 1) + odd : even + odd;
}

__device__ inline double times_row(const Matrix& matrix, int i, const double* x, int t) {
  return add_up(t, [&](int k) { return matrix(i, k) * x[k]; });
}

}  // namespace gmd::cuda
