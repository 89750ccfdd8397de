#include "plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace gmd::cuda {
namespace {

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

bool has_work(const Source& source) { return source.numel > 0 && (source.count > 0 || source.result != nullptr); }

Descriptor describe(const Source& source, size_t index, int num_objectives, int32_t first, const Layout& so_far) {
  Descriptor d{};
  d.begin = so_far.length;
  d.numel = source.numel;
  d.result = source.result;
  d.first = first;
  d.index = static_cast<int32_t>(index);
  d.group = source.group;
  d.count = static_cast<uint8_t>(source.count);
  d.type = source.type;
  d.aligned = is_aligned(source.result) && std::all_of(source.gradients, source.gradients + source.count, is_aligned);
  d.is_shared = source.count == num_objectives;
  d.turn = static_cast<uint8_t>(so_far.units % kWarps);
  return d;
}

// The parameters that there is something to do for, group after group.
std::vector<size_t> order_of(const std::vector<Source>& parameters) {
  std::vector<size_t> order;
  order.reserve(parameters.size());
  for (size_t p = 0; p < parameters.size(); ++p) {
    if (has_work(parameters[p])) order.push_back(p);
  }
  const auto by_group = [&](size_t a, size_t b) { return parameters[a].group < parameters[b].group; };
  if (!std::is_sorted(order.begin(), order.end(), by_group)) std::stable_sort(order.begin(), order.end(), by_group);
  return order;
}

// Appends what `data` holds; returns the word where it begins.
template <class T>
int32_t append(std::vector<uint64_t>& words, const std::vector<T>& data) {
  const size_t begin = words.size();
  words.resize(begin + (data.size() * sizeof(T) + 7) / 8);
  if (!data.empty()) std::memcpy(&words[begin], data.data(), data.size() * sizeof(T));
  return static_cast<int32_t>(begin);
}

// Where each group begins on the line, [K + 1].
std::vector<int64_t> bounds_of(const std::vector<Descriptor>& descriptors, int num_groups, int64_t length) {
  std::vector<int64_t> bounds(num_groups + 1, length);
  for (size_t i = descriptors.size(); i-- > 0;) bounds[descriptors[i].group] = descriptors[i].begin;
  for (int group = num_groups; group-- > 0;) bounds[group] = std::min(bounds[group], bounds[group + 1]);
  return bounds;
}

// Enough for every warp of every block to have a unit, at most so many for each multiprocessor.
int blocks_for(const Layout& layout, int64_t most) {
  return static_cast<int>(std::clamp<int64_t>(layout.units / kWarps, 1, most));
}

}  // namespace

Plan make_plan(const std::vector<Source>& parameters, int num_objectives, int num_groups) {
  std::vector<Descriptor> descriptors;
  std::vector<const void*> pointers;
  std::vector<uint8_t> objectives;
  Plan plan;
  Layout& layout = plan.layout;
  layout.num_objectives = num_objectives;
  layout.num_groups = num_groups;
  for (size_t p : order_of(parameters)) {
    const Source& source = parameters[p];
    descriptors.push_back(describe(source, p, num_objectives, static_cast<int32_t>(pointers.size()), layout));
    pointers.insert(pointers.end(), source.gradients, source.gradients + source.count);
    objectives.insert(objectives.end(), source.objectives, source.objectives + source.count);
    layout.units += descriptors.back().units();
    layout.length += descriptors.back().units() * descriptors.back().cost();
  }
  layout.num_descriptors = static_cast<int32_t>(descriptors.size());
  append(plan.words, descriptors);
  layout.pointers = append(plan.words, pointers);
  layout.objectives = append(plan.words, objectives);
  layout.bounds = append(plan.words, bounds_of(descriptors, num_groups, layout.length));
  return plan;
}

int gram_blocks(const Layout& layout, const Device& device) { return blocks_for(layout, device.multiprocessors); }

int combine_blocks(const Layout& layout, const Device& device) {
  return blocks_for(layout, 2 * device.multiprocessors);
}

int64_t partials_size(const Layout& layout, const Device& device) {
  return (int64_t{gram_blocks(layout, device)} + layout.num_groups) * num_pairs(layout.num_objectives);
}

int gram_shared_bytes(const Layout& layout) {
  const int t = layout.num_objectives;
  if (t <= kMaxFused) return fused_sums_bytes(t) + kWarps * int{sizeof(Rows)} + int{sizeof(BlockState)};
  return wide_slices(t) * num_pairs(t) * int{sizeof(double)} + int{sizeof(Rows)} + int{sizeof(BlockState)};
}

Residency surgery_residency(const Layout& layout, const Device& device) {
  const int others = gram_shared_bytes(layout), left = std::max(device.shared_bytes - others, 0);
  const int bytes_per_warp = left / kWarps / kUnitBytes * kUnitBytes;
  return {device.shared_bytes, bytes_per_warp};  // all of it, whatever T: see launch.h
}

bool fits_surgery(const Layout& layout, const Device& device) {
  return layout.num_groups == 1 && layout.num_objectives <= kMaxFused && layout.units > 0 &&
         device.shared_bytes >= gram_shared_bytes(layout);
}

int64_t counters_size(const Layout& layout) { return layout.num_groups + 1; }

}  // namespace gmd::cuda
