// What each backend provides. T objectives, P parameters, N elements in all parameters together.
// The arguments were checked in gmd_kernels/ops.py: every tensor strided, of one device, of one shape per parameter.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

namespace gmd {

using Tensors = std::vector<std::optional<at::Tensor>>;
using Gradients = std::vector<Tensors>;  // [T][P], nothing where an objective does not reach a parameter

// -> [K, T, T] float64: for each group the inner products over its parameters.
at::Tensor gram_cpu(const Gradients& grads,              // [T][P] float32
                    const std::vector<int64_t>& groups,  // [P], 0..K-1
                    int64_t num_groups);                 // K

// -> [T, T] float64: row i = coefficients of projected gradient i.
at::Tensor pcgrad_weights_cpu(
    const at::Tensor& gram,    // [T, T] float64
    const at::Tensor& order);  // [T, T-1] int64, row i = the order in which i meets the others

// -> [P]: sum_k weights[p, k] * grads[k][p], nothing where no objective reaches p. Written into out[p] where given.
Tensors combine_cpu(const Gradients& grads,     // [T][P] float32
                    const at::Tensor& weights,  // [P, T] float64, contiguous
                    Tensors out);               // [P]; may be objective 0's own tensors

// Name of the instruction set that the kernels above run on.
const char* cpu_isa();

}  // namespace gmd
