#include <ATen/Parallel.h>

#include "parameters.h"

namespace gmd {
namespace {

using cpu::kMaxObjectives;

// partial [T, T] += the inner products of a task's segments; rows that do not exist count as zero.
void gram_task(const std::vector<cpu::Segment>& task, int64_t num_objectives, double* partial) {
  double products[kMaxObjectives * kMaxObjectives];
  const float* rows[kMaxObjectives];
  for (const cpu::Segment& segment : task) {
    const cpu::Parameter& parameter = *segment.parameter;
    const int t = static_cast<int>(parameter.rows.size());
    for (int i = 0; i < t; ++i) rows[i] = parameter.rows[i] + segment.begin;
    std::fill_n(products, t * t, 0.0);
    cpu::kernels().gram(rows, t, segment.length, products);
    for (int i = 0; i < t; ++i) {
      double* row = partial + parameter.objectives[i] * num_objectives;
      for (int j = i; j < t; ++j) row[parameter.objectives[j]] += products[i * t + j];
    }
  }
}

}  // namespace

at::Tensor gram_cpu(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups) {
  const int64_t num_objectives = static_cast<int64_t>(grads.size()), entries = num_objectives * num_objectives;
  const auto parameters = cpu::read_parameters(grads);
  const auto tasks = cpu::cut(parameters, groups, cpu::task_size(parameters));
  const int64_t count = static_cast<int64_t>(tasks.size());

  std::vector<double> partials(count * entries, 0.0);
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      gram_task(tasks[task], num_objectives, partials.data() + task * entries);
    }
  });

  at::Tensor grams = at::zeros({num_groups, num_objectives, num_objectives}, at::kDouble);
  double* out = grams.mutable_data_ptr<double>();
  for (int64_t task = 0; task < count; ++task) {  // in task order: the same bits whichever thread did what
    double* gram = out + groups[tasks[task][0].index] * entries;
    for (int64_t e = 0; e < entries; ++e) gram[e] += partials[task * entries + e];
  }
  return grams + grams.triu(1).mT();
}

const char* cpu_isa() { return cpu::kernels().isa; }

}  // namespace gmd
