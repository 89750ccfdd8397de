// The gradients as the kernels read them: per parameter the rows that exist, where they lie in memory.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "../ops.h"
#include "kernels.h"

namespace gmd::cpu {

struct Parameter {
  std::vector<int> objectives;     // those that reach it, ascending
  std::vector<const float*> rows;  // [objectives.size()][numel], all in the same memory order
  std::vector<at::Tensor> owners;  // keeps them alive, copies where a copy was needed among them
  at::Tensor like;                 // has the shape and the strides of the rows; undefined where no objective reaches it
  int64_t numel = 0;
};

// Gradients that agree in their strides and fill their memory (channels-last included) are read as they lie; a
// parameter whose gradients disagree is copied.
inline Parameter read_parameter(const Gradients& grads, size_t p) {
  Parameter parameter;
  std::vector<at::Tensor> tensors;
  for (size_t k = 0; k < grads.size(); ++k) {
    if (!grads[k][p]) continue;
    parameter.objectives.push_back(static_cast<int>(k));
    tensors.push_back(grads[k][p]->resolve_neg());  // autograd leaves lazily negated tensors behind complex numbers
  }
  if (tensors.empty()) return parameter;
  const bool as_they_lie = std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& g) {
    return g.strides() == tensors[0].strides() && g.is_non_overlapping_and_dense();
  });
  for (at::Tensor& g : tensors) {
    if (!as_they_lie) g = g.contiguous();
    parameter.owners.push_back(g);
    parameter.rows.push_back(g.const_data_ptr<float>());
  }
  parameter.like = tensors[0];
  parameter.numel = tensors[0].numel();
  return parameter;
}

inline std::vector<Parameter> read_parameters(const Gradients& grads) {
  std::vector<Parameter> parameters;
  parameters.reserve(grads[0].size());
  for (size_t p = 0; p < grads[0].size(); ++p) parameters.push_back(read_parameter(grads, p));
  return parameters;
}

// A run of elements of one parameter.
struct Segment {
  const Parameter* parameter;
  size_t index;  // of the parameter
  int64_t begin, length;
};

// Cuts the parameters into tasks of about `size` elements each; a task stays within one group. The cut depends on the
// shapes alone, never on the number of threads, so that sums in task order are the same bits whatever that number is.
inline std::vector<std::vector<Segment>> cut(const std::vector<Parameter>& parameters,
                                             const std::vector<int64_t>& groups, int64_t size) {
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return groups[a] < groups[b]; });

  std::vector<std::vector<Segment>> tasks;
  int64_t room = 0, group = -1;
  for (size_t p : order) {
    for (int64_t begin = 0; begin < parameters[p].numel;) {
      if (room == 0 || groups[p] != group) {
        tasks.emplace_back();
        room = size;
        group = groups[p];
      }
      const int64_t length = std::min(room, parameters[p].numel - begin);
      tasks.back().push_back({&parameters[p], p, begin, length});
      begin += length;
      room -= length;
    }
  }
  return tasks;
}

// Elements per task: enough tasks to share out evenly, few enough that their partial results stay small.
inline int64_t task_size(const std::vector<Parameter>& parameters) {
  constexpr int64_t kSmallest = 1 << 15, kTasks = 512;
  int64_t total = 0;
  for (const Parameter& parameter : parameters) total += parameter.numel;
  return std::max(kSmallest, (total + kTasks - 1) / kTasks);
}

}  // namespace gmd::cpu
