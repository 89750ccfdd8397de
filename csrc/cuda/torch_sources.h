// From a reading of the user's gradients to what a plan is made of.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "../gradients.h"
#include "plan.h"

namespace gmd::cuda {

Type type_of(at::ScalarType dtype);

// The gradients as kernels read them, all of a parameter in one order of memory. Where theirs disagree, or have gaps,
// copies of these are made. The tensors are kept until the launches are under way; torch's allocator does the rest.
class Sources {
 public:
  Sources(const Gradients& grads,
          const std::vector<int64_t>& groups);  // [P], 0..K-1; empty: all of one group

  // Where results are written: into out[p] itself, which is made where there is none, or beside it where its order of
  // memory is another. `finish`, after the launch, copies those.
  void write_to(std::vector<std::optional<at::Tensor>>& out);  // [P]
  void finish() const;

  Plan plan(int64_t num_groups) const { return make_plan(all_, num_objectives_, static_cast<int>(num_groups)); }

 private:
  const at::Tensor& like_of(size_t p) const;
  void bring_together(size_t p);

  const Gradients& grads_;
  int num_objectives_;
  std::vector<const void*> data_;        // of each gradient, or of its copy
  std::vector<Source> all_;              // [P]
  std::map<size_t, at::Tensor> orders_;  // of the parameters with copies: a tensor in their order of memory
  std::vector<at::Tensor> copies_;
  std::vector<std::pair<at::Tensor, at::Tensor>> beside_;  // (out, result)
};

}  // namespace gmd::cuda
