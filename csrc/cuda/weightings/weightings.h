// The launches that find the weights of Gramians: a weighting of gmd_kernels/weightings each, a block per Gramian.
// They return the error of their launch; none waits for the device or allocates. Every pointer is to the device's
// memory, and contiguous. The weights of a Gramian that is not finite are NaN.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace gmd::cuda {

// [count, T, T], T from 1 to 64.
struct Gramians {
  const double* data;
  int64_t count;
  int t;
};

// From the eigenvectors of the Gramian, or of that of the unit gradients. Of aligned_mtl: by which value the gradients
// come to one length.
enum class Spectral { kImtlG, kConfig, kAlignedLeast, kAlignedMedian, kAlignedMean };
cudaError_t launch_spectral(const Gramians& grams, Spectral method,
                            const double* preference,  // [T]; aligned_mtl's
                            double* weights,           // [count, T]
                            cudaStream_t stream);

// From the solution of a program in products of unit gradients.
enum class Program { kMgda, kNashMtl, kDualproj };
cudaError_t launch_program(const Gramians& grams, Program program,
                           const double* preference,  // [T]; dualproj's
                           double max_norm,           // nash_mtl's; 0: none
                           double* weights,           // [count, T]
                           cudaStream_t stream);

// Two launches: a block for each gradient of each Gramian, then one for each Gramian.
cudaError_t launch_upgrad(const Gramians& grams,
                          const double* preference,  // [T]
                          double* shares,            // [count, T, T], anything
                          double* weights,           // [count, T]
                          cudaStream_t stream);

// The second of the two.
cudaError_t launch_upgrad_sum(const Gramians& grams, const double* preference, const double* shares, double* weights,
                              cudaStream_t stream);

cudaError_t launch_cagrad(const Gramians& grams,
                          double c,         // above 0
                          double* weights,  // [count, T]
                          cudaStream_t stream);

struct PcdOptions {
  int primary;
  double tau;            // of every objective, but for
  const double* shares;  // [T], where given: tau of each
  double* state;         // [count, 2, T], where given: the averages and counts, updated in place
};
cudaError_t launch_pcd(const Gramians& grams, const PcdOptions& options,
                       double* weights,  // [count, T]
                       cudaStream_t stream);

cudaError_t launch_fairgrad(const Gramians& grams,
                            double alpha,     // above 0
                            double* weights,  // [count, T]
                            cudaStream_t stream);

cudaError_t launch_gradvac(const Gramians& grams,
                           const int64_t* order,  // [count, T, T - 1], row i = whom gradient i meets, all but i
                           double beta,
                           double* cosines,  // [count, T, T], the averages, updated in place
                           double* weights,  // [count, T]
                           cudaStream_t stream);

}  // namespace gmd::cuda
