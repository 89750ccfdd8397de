#include <ATen/Parallel.h>

#include "parameters.h"

namespace gmd {
namespace {

// Where the kernel writes a parameter's result: the caller's tensor if it lies in memory as the rows do.
at::Tensor result_for(const cpu::Parameter& parameter, const std::optional<at::Tensor>& out) {
  if (out && out->strides() == parameter.like.strides()) return *out;
  return at::empty_like(parameter.like);
}

void combine_segment(const cpu::Segment& segment, const double* weights, float* out) {
  const cpu::Parameter& parameter = *segment.parameter;
  const int t = static_cast<int>(parameter.rows.size());
  const float* rows[cpu::kMaxObjectives];
  float chosen[cpu::kMaxObjectives];
  for (int i = 0; i < t; ++i) {
    rows[i] = parameter.rows[i] + segment.begin;
    chosen[i] = static_cast<float>(weights[parameter.objectives[i]]);
  }
  cpu::kernels().combine(rows, chosen, t, segment.length, out + segment.begin);
}

}  // namespace

Tensors combine_cpu(const Gradients& grads, const at::Tensor& weights, Tensors out) {
  const auto parameters = cpu::read_parameters(grads);
  const int64_t num_objectives = weights.size(1);
  const double* weight = weights.const_data_ptr<double>();
  std::vector<at::Tensor> results(parameters.size());
  std::vector<float*> data(parameters.size());
  for (size_t p = 0; p < parameters.size(); ++p) {
    if (!parameters[p].like.defined()) continue;
    results[p] = result_for(parameters[p], out[p]);
    data[p] = results[p].mutable_data_ptr<float>();
  }
  const std::vector<int64_t> one_group(parameters.size(), 0);
  const auto tasks = cpu::cut(parameters, one_group, cpu::task_size(parameters));
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      for (const cpu::Segment& segment : tasks[task]) {
        combine_segment(segment, weight + segment.index * num_objectives, data[segment.index]);
      }
    }
  });
  for (size_t p = 0; p < parameters.size(); ++p) {
    if (!results[p].defined()) {
      if (out[p]) out[p]->zero_();  // no objective reaches it: the empty sum
    } else if (!out[p]) {
      out[p] = results[p];
    } else if (!out[p]->is_same(results[p])) {
      out[p]->copy_(results[p]);
    }
  }
  return out;
}

}  // namespace gmd
