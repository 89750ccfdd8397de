// The elements of all parameters, one after the other, cut into slots of equal length.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "../gradients.h"

namespace gmd::cpu {

// The cut depends on the shapes alone, never on the number of threads: sums in the order of the slots are the same bits
// whatever that number is.
class Slots {
 public:
  // Parameters of one group lie side by side; groups may be empty: the parameters in their own order.
  Slots(const Gradients& grads, const std::vector<int64_t>& groups, int64_t most) : order_(grads.parameters.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    if (!std::is_sorted(groups.begin(), groups.end())) {
      std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return groups[a] < groups[b]; });
    }
    begin_.reserve(order_.size() + 1);
    begin_.push_back(0);
    for (size_t p : order_) begin_.push_back(begin_.back() + grads.parameters[p].numel);
    constexpr int64_t kSmallest = 1 << 14;  // elements worth another slot
    count_ = std::clamp<int64_t>(begin_.back() / kSmallest, 1, most);
  }

  int64_t count() const { return count_; }
  int64_t begin(int64_t slot) const {
    const int64_t total = begin_.back();
    return total / count_ * slot + std::min(slot, total % count_);
  }
  int64_t end(int64_t slot) const { return begin(slot + 1); }

  // visit(p, first, length) for every run of elements of the slot that belongs to one parameter.
  template <class Visit>
  void each(int64_t slot, Visit visit) const {
    const int64_t stop = end(slot);
    int64_t at = begin(slot);
    size_t i = std::upper_bound(begin_.begin(), begin_.end(), at) - begin_.begin() - 1;
    for (; at < stop; ++i) {
      const int64_t length = std::min(stop, begin_[i + 1]) - at;
      if (length > 0) visit(order_[i], at - begin_[i], length);
      at += length;
    }
  }

  // Where the elements of each group begin and end: [K + 1].
  std::vector<int64_t> group_bounds(const std::vector<int64_t>& groups, int64_t num_groups) const {
    std::vector<int64_t> bounds(num_groups + 1, begin_.back());
    for (size_t i = order_.size(); i-- > 0;) {
      const int64_t group = groups.empty() ? 0 : groups[order_[i]];
      bounds[group] = begin_[i];
    }
    for (int64_t group = num_groups; group-- > 0;) bounds[group] = std::min(bounds[group], bounds[group + 1]);
    return bounds;
  }

 private:
  std::vector<size_t> order_;   // [P]
  std::vector<int64_t> begin_;  // [P + 1], of each parameter among all elements
  int64_t count_;
};

}  // namespace gmd::cpu
