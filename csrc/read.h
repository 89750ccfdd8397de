// From Python's lists of gradients to ours.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <deque>
#include <memory>
#include <vector>

#include "gradients.h"

namespace gmd {

// The gradients, and what keeps them alive. References of Python's cost less than tensors of our own.
struct Read {
  Gradients grads;
  std::vector<pybind11::object> objects;
  std::deque<at::Tensor> copies;
};

// Dense, of a floating type, and with memory that kernels may read: nothing of torch's around it.
bool is_ordinary(const at::Tensor& g);

// grads[k][p], lists or tuples of tensors and None. Nothing if there is anything wrong or unusual about them; Python,
// which is slower, finds out what and says so.
std::unique_ptr<Read> read_gradients(pybind11::handle grads);

}  // namespace gmd
