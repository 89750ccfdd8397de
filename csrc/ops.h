// What each backend provides. T objectives, P parameters, K groups, N elements in all parameters together.
// Arguments were checked in gmd_kernels: see there for what is refused.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gradients.h"

namespace gmd {

// -> [K, T, T] float64: for each group the inner products over its parameters.
at::Tensor gram_cpu(const Gradients& grads,
                    const std::vector<int64_t>& groups,  // [P], 0..K-1; empty: all of one group
                    int64_t num_groups);                 // K

// -> [..., T, T] float64: row i = coefficients of projected gradient i.
at::Tensor pcgrad_weights_cpu(
    const at::Tensor& gram,    // [..., T, T] float64
    const at::Tensor& order);  // [..., T, T-1] int64, row i = the order in which i meets the others

// -> [P]: sum_k weights[p, k] * grads[k][p], nothing where no objective reaches p. Written into out[p] where given.
std::vector<std::optional<at::Tensor>> combine_cpu(
    const Gradients& grads,
    const at::Tensor& weights,                    // [P, T] float64
    std::vector<std::optional<at::Tensor>> out);  // [P]; may be gradients of the same parameters

struct Merged {
  std::vector<std::optional<at::Tensor>> gradients;  // [P], as of combine_cpu
  at::Tensor grams;                                  // [K, T, T] float64
  at::Tensor weights;                                // [K, T] float64, for parameters that every objective reaches
};

// GMD: gram_cpu, pcgrad_weights_cpu and combine_cpu in one call. Parameters that every objective reaches get the mean
// of the projected gradients, or their sum; others the sum.
Merged surgery_cpu(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups,
                   const at::Tensor& order,  // [K, T, T-1] int64
                   bool mean, std::vector<std::optional<at::Tensor>> out);

// relu(group_norm(x) * weight[rows] + bias[rows]) -> y as x lies in memory, and the statistics mean, rstd [n, G].
std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_relu_cpu(
    const at::Tensor& x,       // [n, C, *spatial], contiguous or channels-last
    const at::Tensor& weight,  // [R, C] of the statistics' type: float32, or float64 for float64 x
    const at::Tensor& bias,    // [R, C]
    const at::Tensor& rows,    // [n] int64, 0..R-1
    int64_t num_groups, double eps);

// -> dx where it is wanted, dweight, dbias [R, C]: a row gets the sum over the samples that take it.
std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor> group_norm_relu_backward_cpu(
    const at::Tensor& grad,  // [n, C, *spatial], any strides
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& rows,
    const at::Tensor& mean,  // [n, G]
    const at::Tensor& rstd,  // [n, G]
    bool needs_x);

// With k = P h and beta = alpha + h . k: P -= k k^T / beta, and weight_grad = weight_grad P, both in place. Where one
// of k, beta and weight_grad is not finite, weight_grad becomes NaN and P stays.
void owm_update_cpu(const at::Tensor& projector,    // P, [d, d] float32 or float64, contiguous
                    const at::Tensor& weight_grad,  // [C, d], any strides; P's type, or 16 bits where that is float32
                    const at::Tensor& mean_input,   // h, [d] of P's type
                    double alpha);

// sketch += S g for the one objective's gradients, see sketch_map.h.
void sketch_cpu(const Gradients& grads,
                const at::Tensor& sketch,  // [d] float32 or float64, contiguous, apart from the gradients
                int64_t seed);             // 0 or more

#ifdef GMD_WITH_CUDA
// The ops on gradients on a GPU, on the current stream. Nothing waits for the device.

at::Tensor gram_cuda(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups);

at::Tensor pcgrad_weights_cuda(const at::Tensor& gram, const at::Tensor& order);

std::vector<std::optional<at::Tensor>> combine_cuda(const Gradients& grads, const at::Tensor& weights,
                                                    std::vector<std::optional<at::Tensor>> out);

Merged surgery_cuda(
    const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups,
    std::optional<at::Tensor> order,  // [K, T, T-1] int64, here or on the GPU; none: the kernel draws, from
    const std::optional<at::Generator>& generator,  // none: the device's default
    bool mean, std::vector<std::optional<at::Tensor>> out);

void sketch_cuda(const Gradients& grads, const at::Tensor& sketch, int64_t seed);

// group_norm_relu_cpu and its backward. Rows need not be given: row i for sample i, or the only row.
std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_relu_cuda(const at::Tensor& x, const at::Tensor& weight,
                                                                    const at::Tensor& bias,
                                                                    const std::optional<at::Tensor>& rows,
                                                                    int64_t num_groups, double eps);
std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor> group_norm_relu_backward_cuda(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const std::optional<at::Tensor>& rows, const at::Tensor& mean, const at::Tensor& rstd, bool needs_x);

// Weightings, each as in gmd_kernels/weightings: [..., T, T] float64 -> [..., T]. Preferences are [T] float64.

at::Tensor imtl_g_cuda(const at::Tensor& gram);

at::Tensor config_cuda(const at::Tensor& gram);

at::Tensor aligned_mtl_cuda(const at::Tensor& gram, const at::Tensor& preference,
                            const std::string& scale_mode);  // "min", "median" or "rmse"

at::Tensor mgda_cuda(const at::Tensor& gram);

at::Tensor nash_mtl_cuda(const at::Tensor& gram, const std::optional<double>& max_norm);

at::Tensor dualproj_cuda(const at::Tensor& gram, const at::Tensor& preference);

at::Tensor upgrad_cuda(const at::Tensor& gram, const at::Tensor& preference);

at::Tensor cagrad_cuda(const at::Tensor& gram, double c);

at::Tensor pcd_cuda(const at::Tensor& gram, int64_t primary, double tau,
                    const std::optional<at::Tensor>& taus,    // [T] float64, in tau's place
                    const std::optional<at::Tensor>& state);  // [..., 2, T] float64, updated in place

at::Tensor fairgrad_cuda(const at::Tensor& gram, double alpha);

at::Tensor gradvac_cuda(const at::Tensor& gram,
                        const at::Tensor& cosines,  // [..., T, T] float64, updated in place
                        const at::Tensor& order,    // [..., T, T-1] int64
                        double beta);

// Numbers of the host's to a device.
at::Tensor upload(const at::Tensor& numbers, at::Device device);  // int64, contiguous, on the CPU

// Why the kernels do not run on a device; nothing if they do.
std::optional<std::string> why_not_cuda(int64_t index);

// Whether they do, asked of each device once.
bool serves_cuda(int64_t index);
#endif

// Name of the instruction set that the kernels above run on.
const char* cpu_isa();

}  // namespace gmd
