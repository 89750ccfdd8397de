#include "jacobi.cuh"
#include "unit_gradients.cuh"

namespace gmd::cuda {
namespace {

constexpr double kRounded = 1e-7, kLargestSum = 10;  // as in gmd_kernels/weightings/_spectral.py

constexpr int numbers_of(int t) { return 2 * matrix_numbers(even(t), even(t)) + 5 * even(t); }
static_assert(fits_every_gpu(numbers_of(kMaxObjectives)));

struct Eigen {
  Matrix matrix, vectors;  // [n, n]: values on the diagonal of the one, eigenvectors as columns of the other
  double *parts, *others;  // [n], what is left of each eigenvector
  int t, n;

  __device__ double value(int j) const { return matrix(j, j); }

  // What a value has to be above to be more than rounding, whose size a negative one tells.
  __device__ double noise() const {
    const double most = most_of(n, [&](int j) { return value(j); });
    const double least = least_of(n, [&](int j) { return value(j); });
    return fmax(fmax(kNoise * most, -10 * least), 0.0);
  }

  // Eigenvector j times f(0) .. f(t - 1).
  template <class F>
  __device__ double along(int j, F f) const {
    return add_up(t, [&](int i) { return vectors(i, j) * f(i); });
  }

  // Entry i of the sum of the eigenvectors, times so much each.
  __device__ double combined(int i, const double* factors) const {
    return add_up(n, [&](int j) { return vectors(i, j) * factors[j]; });
  }
};

__device__ inline void imtl_g(const Eigen& eigen, const UnitGradients& units, double* found, double* weights) {
  const int t = eigen.t;
  const double noise = fmax(eigen.noise(), kRounded), shortest = units.shortest(t);
  for_each(eigen.n, [&](int j) {
    const double sum = eigen.along(j, [](int) { return 1.0; });
    eigen.parts[j] = eigen.value(j) > noise && fabs(sum) > kRounded ? sum / eigen.value(j) : 0;
  });
  __syncthreads();
  for_each(t, [&](int i) {
    const double length = units.lengths[i];
    found[i] = length > 0 ? per_length(eigen.combined(i, eigen.parts) * shortest, length) : 0;
  });
  __syncthreads();
  const double sum = fabs(sum_of(t, [&](int i) { return found[i]; }));
  const double size = sum_of(t, [&](int i) { return fabs(found[i]); });
  const double divisor = fmax(sum, size / kLargestSum);
  for_each(t, [&](int i) { weights[i] = divisor > 0 ? found[i] / divisor : 0; });
}

__device__ inline void config(const Eigen& eigen, const UnitGradients& units, double* found, double* weights) {
  const int t = eigen.t;
  const auto is_there = [&](int i) { return units.lengths[i] > 0 ? 1.0 : 0.0; };
  const double most = most_of(eigen.n, [&](int j) { return eigen.value(j); });
  const double noise = fmax(eigen.noise(), most / (kLargest * kLargest));
  for_each(eigen.n, [&](int j) {
    const bool kept = eigen.value(j) > noise;
    eigen.parts[j] = kept ? eigen.along(j, is_there) : 0;
    eigen.others[j] = kept ? eigen.parts[j] / eigen.value(j) : 0;
  });
  __syncthreads();
  double* products = found + t;
  for_each(t, [&](int i) {
    found[i] = eigen.combined(i, eigen.others);    // shares: the pseudoinverse of the cosines times ones
    products[i] = eigen.combined(i, eigen.parts);  // the cosines times these
  });
  __syncthreads();
  const double square = sum_of(t, [&](int i) { return found[i] * products[i]; });
  const double reach = sum_of(t, [&](int i) { return units.lengths[i] * products[i]; });
  const double within = sum_of(eigen.n, [&](int j) { return eigen.parts[j] * eigen.parts[j]; });
  const bool there = within > kNoise * sum_of(t, is_there);
  for_each(t, [&](int i) { weights[i] = there ? per_length(found[i] * (reach / square), units.lengths[i]) : 0; });
}

// The value to whose root the gradients are brought, of the kept ones.
__device__ inline double aligned_square(const Eigen& eigen, Spectral method, double noise, double* median) {
  const auto is_kept = [&](int j) { return eigen.value(j) > noise; };
  const double count = sum_of(eigen.n, [&](int j) { return is_kept(j) ? 1.0 : 0.0; });
  if (method == Spectral::kAlignedLeast) {
    return least_of(eigen.n, [&](int j) { return is_kept(j) ? eigen.value(j) : kInfinite; });
  }
  if (method == Spectral::kAlignedMean) {
    return sum_of(eigen.n, [&](int j) { return is_kept(j) ? eigen.value(j) : 0.0; }) / count;
  }
  for_each(eigen.n, [&](int j) {
    int below = 0;
    for (int k = 0; k < eigen.n; ++k) {
      const double mine = eigen.value(j), other = eigen.value(k);
      below += is_kept(k) && (other < mine || (other == mine && k < j));
    }
    if (is_kept(j) && below == (static_cast<int>(count) - 1) / 2) *median = eigen.value(j);
  });
  __syncthreads();
  return *median;
}

__device__ inline void aligned(const Eigen& eigen, Spectral method, const double* preference, double* median,
                               double* weights) {
  const double noise = eigen.noise();
  const bool any = most_of(eigen.n, [&](int j) { return eigen.value(j); }) > noise;
  if (!any) return for_each(eigen.t, [&](int i) { weights[i] = preference[i]; });
  const double square = aligned_square(eigen, method, noise, median);
  for_each(eigen.n, [&](int j) {
    const double value = eigen.value(j), within = eigen.along(j, [&](int i) { return preference[i]; });
    eigen.parts[j] = value > noise ? fmin(sqrt(square / value), kLargest) * within : 0;
  });
  __syncthreads();
  for_each(eigen.t, [&](int i) { weights[i] = eigen.combined(i, eigen.parts); });
}

__device__ inline double largest_entry(const Matrix& matrix, int t) {
  return most_of(t, [&](int i) {
    double largest = 0;
    for (int j = 0; j < t; ++j) largest = fmax(largest, fabs(matrix(i, j)));
    return largest;
  });
}

// By a power of two, to entries of about one at most, whose squares are neither too large nor too small.
__device__ inline void scale_to_one(const Matrix& matrix, int t) {
  const double largest = largest_entry(matrix, t);
  const double scale = largest > 0 ? ldexp(1.0, -max(ilogb(largest), -1000)) : 1;
  __syncthreads();
  for_entries(t, t, [&](int i, int j) { matrix(i, j) *= scale; });
  __syncthreads();
}

__global__ void __launch_bounds__(kMostThreads, 1)
    spectral_kernel(const double* grams, int t, Spectral method, const double* preference, double* weights) {
  Numbers numbers;
  const int n = even(t);
  const Matrix matrix = numbers.matrix(n, n), vectors = numbers.matrix(n, n);
  double *cosines = numbers.vector(n), *sines = numbers.vector(n);  // afterwards for what is left of the eigenvectors
  const UnitGradients units{matrix, numbers.vector(n)};
  double* found = numbers.vector(2 * n);
  const double* gram = grams + int64_t{blockIdx.x} * t * t;
  weights += int64_t{blockIdx.x} * t;
  const bool is_aligned = method != Spectral::kImtlG && method != Spectral::kConfig;
  if (!(is_aligned ? read_gram(gram, t, matrix) : units.read(gram, t))) return write_nan(weights, t);
  if (is_aligned) scale_to_one(matrix, t);
  if (n > t) for_each(n, [&](int i) { matrix(i, t) = matrix(t, i) = 0; });
  __syncthreads();
  Jacobi{matrix, vectors, cosines, sines, n}(largest_entry(matrix, t));
  const Eigen eigen{matrix, vectors, cosines, sines, t, n};
  if (method == Spectral::kImtlG) return imtl_g(eigen, units, found, weights);
  if (method == Spectral::kConfig) return config(eigen, units, found, weights);
  aligned(eigen, method, preference, found, weights);
}

}  // namespace

cudaError_t launch_spectral(const Gramians& grams, Spectral method, const double* preference, double* weights,
                            cudaStream_t stream) {
  if (grams.count == 0) return cudaSuccess;
  const LaunchShape shape = shape_of(grams.count, grams.t, numbers_of(grams.t), numbers_of(kMaxObjectives), stream);
  return launch(spectral_kernel, shape, grams.data, grams.t, method, preference, weights);
}

}  // namespace gmd::cuda
