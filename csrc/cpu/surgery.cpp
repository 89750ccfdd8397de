#include "../ops.h"

namespace gmd {

Merged surgery_cpu(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups,
                   const at::Tensor& order, bool mean, std::vector<std::optional<at::Tensor>> out) {
  const int64_t t = grads.num_objectives, num_params = static_cast<int64_t>(grads.parameters.size());
  const at::Tensor grams = gram_cpu(grads, groups, num_groups);
  const at::Tensor sums = pcgrad_weights_cpu(grams, order).sum(-2);  // [K, T]
  const at::Tensor weights = mean ? sums.div(static_cast<double>(t)) : sums;
  const at::Tensor rows = at::empty({num_params, t}, at::kDouble);
  for (int64_t p = 0; p < num_params; ++p) {
    const at::Tensor& from = grads.parameters[p].count == t ? weights : sums;
    const double* row = from.const_data_ptr<double>() + (groups.empty() ? 0 : groups[p]) * t;
    std::copy(row, row + t, rows.mutable_data_ptr<double>() + p * t);
  }
  return {combine_cpu(grads, rows, std::move(out)), grams, weights};
}

}  // namespace gmd
