// A segment of a parameter's gradients as the kernels read them: plain rows, side by side in memory order.
#pragma once

#include <vector>

#include "common_order.h"
#include "kernels.h"

namespace gmd::cpu {

constexpr int64_t kWindow = 512;  // elements of each row that are copied at a time, where they have to be

inline Type type_of(at::ScalarType dtype) {
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

// Calls visit with an unsigned integer of the size of an element: for moving elements about.
template <class Visit>
void by_size(at::ScalarType dtype, Visit visit) {
  switch (c10::elementSize(dtype)) {
    case 2:
      return visit(uint16_t{});
    case 4:
      return visit(uint32_t{});
    default:
      return visit(uint64_t{});
  }
}

// Memory for windows of rows, of any type; grows where it is needed.
class Buffer {
 public:
  template <class E>
  E* of(int64_t count) {
    const size_t words = (count * sizeof(E) + 7) / 8;
    if (words_.size() < words) words_.resize(words);
    return reinterpret_cast<E*>(words_.data());
  }

 private:
  std::vector<uint64_t> words_;
};

// visit(rows, begin, n) for windows of at most `most` elements, one after the other, that make up the segment.
// With a common order, whose first tensors are the gradients, the rows are copies in it; else they are read in place.
template <class Visit>
void each_window(const Gradients& grads, const Parameter& parameter, const CommonOrder* order, int64_t begin,
                 int64_t length, int64_t most, Buffer& copies, Visit visit) {
  const void* const* from = &grads.data[parameter.first];
  by_size(parameter.dtype, [&](auto element) {
    using E = decltype(element);
    const void* rows[kMaxObjectives];
    for (const int64_t end = begin + length; begin < end; begin += most) {
      const int64_t n = std::min(most, end - begin);
      E* copy = order ? copies.of<E>(parameter.count * n) : nullptr;
      for (int i = 0; i < parameter.count; ++i) {
        const E* data = static_cast<const E*>(from[i]);
        if (order) order->gather(data, i, begin, n, copy + i * n);
        rows[i] = order ? copy + i * n : data + begin;
      }
      visit(rows, begin, n);
    }
  });
}

}  // namespace gmd::cpu
