// One reading of the gradients that a user holds in lists.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace gmd {

constexpr int kMaxObjectives = 64;

struct Parameter {
  int64_t first;  // its gradients are Gradients::tensors[first .. first + count)
  int count;      // how many objectives reach it
  at::ScalarType dtype = at::kFloat;
  int64_t numel = 0;
  bool aligned = true;  // the same strides in all of them, without gaps: an index into memory means the same element
};

struct Gradients {
  int64_t num_objectives = 0;
  std::vector<Parameter> parameters;       // [P]
  std::vector<const at::Tensor*> tensors;  // those that exist, parameter by parameter; who reads them keeps them alive
  std::vector<const void*> data;           // of each of the tensors
  std::vector<int> objectives;             // of each of the tensors; ascending within a parameter
};

}  // namespace gmd
