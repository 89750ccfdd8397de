// What each backend provides. T objectives, P parameters, K groups, N elements in all parameters together.
// Arguments were checked in gmd_kernels: see there for what is refused.
#pragma once

#include <optional>
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

// Name of the instruction set that the kernels above run on.
const char* cpu_isa();

}  // namespace gmd
