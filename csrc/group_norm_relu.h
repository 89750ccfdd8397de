// group_norm_relu as eager code calls it, with its autograd: in Python the checks and the node of the graph take longer
// than a small tensor's kernels.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace gmd {

// y, or None where a backend cannot take the arguments as they are, or torch has to see what happens: Python, which is
// slower, finds out why, and says so, mends it or goes another way. Arguments as of gmd_kernels.group_norm_relu.
std::optional<at::Tensor> group_norm_relu(pybind11::handle x, pybind11::handle weight, pybind11::handle bias,
                                          pybind11::handle num_groups, pybind11::handle rows, pybind11::handle eps);

}  // namespace gmd
