#include "spans.h"

namespace gmd {

at::Tensor spans(const Gradients& grads) {
  std::vector<int64_t> found;
  found.reserve(3 * grads.tensors.size());
  for (size_t p = 0; p < grads.parameters.size(); ++p) {
    const Parameter& parameter = grads.parameters[p];
    for (int64_t i = parameter.first; i < parameter.first + parameter.count; ++i) {
      const at::Tensor& g = *grads.tensors[i];
      if (g.numel() == 0) continue;
      int64_t elements = 1;
      for (int64_t d = 0; d < g.dim(); ++d) elements += (g.size(d) - 1) * g.stride(d);
      const int64_t begin = reinterpret_cast<int64_t>(grads.data[i]);
      found.insert(found.end(), {begin, begin + elements * g.element_size(), static_cast<int64_t>(p)});
    }
  }
  return at::tensor(found, at::kLong).view({-1, 3});
}

}  // namespace gmd
