#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "parameters.h"

namespace gmd {
namespace {

// Where the kernel writes a parameter's result: the caller's tensor if it lies in memory as the rows do.
at::Tensor result_for(const cpu::Parameter& parameter, const std::optional<at::Tensor>& out) {
  if (out && out->strides() == parameter.like.strides()) return *out;
  return at::empty_like(parameter.like);
}

// A projection off a gradient of 1e-40 has a coefficient that float32 cannot hold, while coefficient times gradient is
// ordinary: then everything is computed in float64.
bool beyond_float(const cpu::Parameter& parameter, const double* weights) {
  return std::any_of(parameter.objectives.begin(), parameter.objectives.end(),
                     [&](int k) { return std::abs(weights[k]) > std::numeric_limits<float>::max(); });
}

void combine_segment_in_double(const cpu::Segment& segment, const double* weights, float* out) {
  const cpu::Parameter& parameter = *segment.parameter;
  for (int64_t x = segment.begin; x < segment.begin + segment.length; ++x) {
    double total = 0;
    for (size_t i = 0; i < parameter.rows.size(); ++i) total += weights[parameter.objectives[i]] * parameter.rows[i][x];
    out[x] = static_cast<float>(total);
  }
}

void combine_segment(const cpu::Segment& segment, const double* weights, float* out) {
  const cpu::Parameter& parameter = *segment.parameter;
  if (beyond_float(parameter, weights)) return combine_segment_in_double(segment, weights, out);
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
