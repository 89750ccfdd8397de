#include <ATen/Parallel.h>

#include "../ops.h"
#include "rows.h"
#include "slots.h"

namespace gmd {
namespace {

// What one thread adds up with.
struct Scratch {
  std::vector<double> sums;  // [pairs][lanes]
  cpu::Buffer copies;
};

void gram_segment(const Gradients& grads, size_t p, int64_t begin, int64_t length, Scratch& scratch) {
  const Parameter& parameter = grads.parameters[p];
  std::optional<cpu::CommonOrder> order;
  if (!parameter.aligned) {
    order.emplace(*grads.tensors[parameter.first]);
    for (int i = 0; i < parameter.count; ++i) order->add(*grads.tensors[parameter.first + i]);
  }
  const int* objectives = &grads.objectives[parameter.first];
  cpu::each_window(grads, parameter, order ? &*order : nullptr, begin, length, order ? cpu::kWindow : length,
                   scratch.copies, [&](const void* const* rows, int64_t, int64_t n) {
                     cpu::kernels().gram(cpu::type_of(parameter.dtype), rows, objectives, parameter.count, n,
                                         scratch.sums.data());
                   });
}

// result[pairs] += the sums of all lanes, which start anew.
void flush(Scratch& scratch, double* result) {
  const size_t lanes = cpu::kernels().lanes;
  for (size_t i = 0; i < scratch.sums.size(); ++i) {
    result[i / lanes] += scratch.sums[i];
    scratch.sums[i] = 0;
  }
}

// [pairs] at the beginning of [t][t] -> the symmetric matrix: the lower half from its end, each sum moves to the right.
void unpack(double* gram, int t) {
  for (int j = t; j-- > 0;) {
    for (int i = j; i >= 0; --i) gram[j * t + i] = gram[cpu::pair_index(i, j)];
  }
  for (int j = 0; j < t; ++j) {
    for (int i = 0; i < j; ++i) gram[i * t + j] = gram[j * t + i];
  }
}

// The sums of a slot's first and last group, where other slots have a share in these.
struct Partials {
  int64_t groups[2] = {-1, -1};
  std::vector<double> sums[2];  // [pairs]
};

}  // namespace

at::Tensor gram_cpu(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups) {
  const int64_t t = grads.num_objectives, pairs = t * (t + 1) / 2;
  const cpu::Slots slots(grads, groups, t <= 32 ? 64 : 16);  // few enough that their partial sums stay small
  const std::vector<int64_t> bounds = slots.group_bounds(groups, num_groups);
  at::Tensor grams = at::zeros({num_groups, t, t}, at::kDouble);
  const auto totals = [sums = grams.mutable_data_ptr<double>(), t](int64_t group) { return sums + group * t * t; };
  std::vector<Partials> partials(slots.count());
  at::parallel_for(0, slots.count(), 1, [&](int64_t first, int64_t last) {
    Scratch scratch{std::vector<double>(pairs * cpu::kernels().lanes), {}};
    for (int64_t slot = first; slot < last; ++slot) {
      int64_t group = -1;
      const auto finish = [&] {
        if (group < 0) return;
        const bool before = (bounds[group] < slots.begin(slot)), after = (bounds[group + 1] > slots.end(slot));
        if (!before && !after) return flush(scratch, totals(group));
        Partials& partial = partials[slot];
        partial.groups[!before] = group;
        partial.sums[!before].resize(pairs);
        flush(scratch, partial.sums[!before].data());
      };
      slots.each(slot, [&](size_t p, int64_t begin, int64_t length) {
        const int64_t next = groups.empty() ? 0 : groups[p];
        if (next != group) finish();
        group = next;
        gram_segment(grads, p, begin, length, scratch);
      });
      finish();
    }
  });
  for (const Partials& partial : partials) {  // in the order of the slots
    for (int side : {0, 1}) {
      for (int64_t pair = 0; pair < static_cast<int64_t>(partial.sums[side].size()); ++pair) {
        totals(partial.groups[side])[pair] += partial.sums[side][pair];
      }
    }
  }
  for (int64_t group = 0; group < num_groups; ++group) unpack(totals(group), static_cast<int>(t));
  return grams;
}

const char* cpu_isa() { return cpu::kernels().isa; }

}  // namespace gmd
