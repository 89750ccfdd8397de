// One order for the elements of several tensors of one shape, which lie in memory differently.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../gradients.h"

namespace gmd::cpu {

class CommonOrder {
 public:
  // In the memory order of `like`. Tensors are numbered as they are added.
  explicit CommonOrder(const at::Tensor& like) {
    for (int64_t d = 0; d < like.dim(); ++d) {
      if (like.size(d) != 1) dims_.push_back(d);
    }
    std::stable_sort(dims_.begin(), dims_.end(), [&](int64_t a, int64_t b) { return like.stride(a) > like.stride(b); });
    for (int64_t d : dims_) sizes_.push_back(like.size(d));
  }

  void add(const at::Tensor& tensor) {
    for (int64_t d : dims_) strides_.push_back(tensor.stride(d));
  }

  // buffer[0..n) = elements begin.. of a tensor whose data is given; scatter is the way back.
  template <class E>
  void gather(const void* data, int tensor, int64_t begin, int64_t n, E* buffer) const {
    const E* from = static_cast<const E*>(data);
    runs(tensor, begin, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t length) {
      for (int64_t i = 0; i < length; ++i) buffer[at + i] = from[offset + i * stride];
    });
  }

  template <class E>
  void scatter(const E* buffer, void* data, int tensor, int64_t begin, int64_t n) const {
    E* to = static_cast<E*>(data);
    runs(tensor, begin, n, [&](int64_t offset, int64_t stride, int64_t at, int64_t length) {
      for (int64_t i = 0; i < length; ++i) to[offset + i * stride] = buffer[at + i];
    });
  }

 private:
  // visit(offset into the tensor, its stride there, offset into the buffer, length) for each run of the last dimension.
  template <class Visit>
  void runs(int tensor, int64_t begin, int64_t n, Visit visit) const {
    const int last = static_cast<int>(dims_.size()) - 1;
    if (last < 0) return visit(0, 0, 0, n);  // one element
    const int64_t* strides = strides_.data() + tensor * dims_.size();
    for (int64_t at = 0; at < n;) {
      int64_t index = begin + at, offset = 0;
      const int64_t inner = index % sizes_[last], length = std::min(n - at, sizes_[last] - inner);
      for (int d = last; d >= 0; --d) {
        offset += index % sizes_[d] * strides[d];
        index /= sizes_[d];
      }
      visit(offset, strides[last], at, length);
      at += length;
    }
  }

  std::vector<int64_t> dims_, sizes_;  // slowest first, without those of one element
  std::vector<int64_t> strides_;       // [tensor][dim]
};

}  // namespace gmd::cpu
