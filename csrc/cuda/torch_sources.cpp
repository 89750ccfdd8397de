#include "torch_sources.h"

#include <ATen/cuda/EmptyTensor.h>

namespace gmd::cuda {

Type type_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return Type::kDouble;
    case at::kBFloat16:
      return Type::kBFloat16;
    case at::kHalf:
      return Type::kHalf;
    default:
      return Type::kFloat;
  }
}

namespace {

at::Tensor empty_as(const at::Tensor& like) {
  return at::detail::empty_strided_cuda(like.sizes(), like.strides(), like.options());
}

}  // namespace

Sources::Sources(const Gradients& grads, const std::vector<int64_t>& groups)
    : grads_(grads), num_objectives_(static_cast<int>(grads.num_objectives)), data_(grads.data) {
  all_.reserve(grads.parameters.size());
  for (size_t p = 0; p < grads.parameters.size(); ++p) {
    const Parameter& parameter = grads.parameters[p];
    if (!parameter.aligned) bring_together(p);
    all_.push_back({parameter.numel, type_of(parameter.dtype), groups.empty() ? 0 : static_cast<int>(groups[p]),
                    parameter.count, data_.data() + parameter.first, grads.objectives.data() + parameter.first,
                    nullptr});
  }
}

void Sources::write_to(std::vector<std::optional<at::Tensor>>& out) {
  for (size_t p = 0; p < out.size(); ++p) {
    if (grads_.parameters[p].count == 0) continue;
    const at::Tensor& like = like_of(p);
    if (!out[p]) out[p] = empty_as(like);
    const bool direct = out[p]->strides() == like.strides();
    const at::Tensor result = direct ? *out[p] : empty_as(like);
    if (!direct) beside_.emplace_back(*out[p], result);
    all_[p].result = result.mutable_data_ptr();
  }
  for (size_t p = 0; p < out.size(); ++p) {
    if (!out[p]) continue;
    if (!out[p]->is_inference()) out[p]->unsafeGetTensorImpl()->bump_version();  // autograd has to know
    if (grads_.parameters[p].count == 0) out[p]->zero_();  // no objective reaches it: the empty sum
  }
}

void Sources::finish() const {
  for (const auto& [out, result] : beside_) out.copy_(result);
}

const at::Tensor& Sources::like_of(size_t p) const {
  const auto found = orders_.find(p);
  return found == orders_.end() ? *grads_.tensors[grads_.parameters[p].first] : found->second;
}

void Sources::bring_together(size_t p) {
  const Parameter& parameter = grads_.parameters[p];
  const at::Tensor& first = *grads_.tensors[parameter.first];
  const bool dense = first.is_non_overlapping_and_dense();
  const at::Tensor like = dense ? first : at::empty_like(first).copy_(first);
  orders_.emplace(p, like);
  data_[parameter.first] = like.const_data_ptr();
  for (int64_t i = parameter.first + 1; i < parameter.first + parameter.count; ++i) {
    if (grads_.tensors[i]->strides() == like.strides()) continue;
    copies_.push_back(empty_as(like).copy_(*grads_.tensors[i]));
    data_[i] = copies_.back().const_data_ptr();
  }
}

}  // namespace gmd::cuda
