// A tensor [n, C, *spatial] as runs of elements for the norm's kernels, the same for any number of threads.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "rows.h"

namespace gmd::cpu {

// A part of one sample's elements, side by side in memory.
struct Run {
  int64_t sample, first_channel, slot;
  int64_t offset, length;  // elements, from the beginning of the tensor
};

// A sample is one line that passes through all channels voxel by voxel (channels-last memory), or one line per channel
// (contiguous). Lines are cut into slots, each a run.
class Lines {
 public:
  Lines(const at::Tensor& x, int64_t num_groups)
      : samples(x.size(0)),
        channels(x.size(1)),
        groups(num_groups),
        voxels(x.numel() / std::max<int64_t>(1, samples * channels)),
        type_(type_of(x.scalar_type())) {
    const bool last = voxels == 1 || !x.is_contiguous();
    per_line = last ? channels : 1;
    const int64_t length = voxels * per_line, strip = 4 * width();
    // of a line shorter than the channels take to repeat, tables and sums need no more than the line
    whole = std::min(std::lcm(per_line, strip), (length + strip - 1) / strip * strip);
    period = per_line == 1 ? 1 : whole;
    slot_length_ = (length / std::clamp<int64_t>(length / kSmallest, 1, kMost) + whole - 1) / whole * whole;
    slots = (length + slot_length_ - 1) / slot_length_;
  }

  int64_t runs(int64_t num_samples) const { return num_samples * channels / per_line * slots; }
  Run run(int64_t index) const {
    const int64_t line = index / slots, slot = index % slots, length = voxels * per_line;
    const int64_t begin = slot * slot_length_;
    return {line * per_line / channels, line * per_line % channels, slot, line * length + begin,
            std::min(slot_length_, length - begin)};
  }

  // What is added up over a group comes in parts: one from each slot of each line that passes through the group.
  int64_t parts_of_group() const { return per_line == channels ? slots : slots * (channels / groups); }
  int64_t part(const Run& run) const { return run.first_channel % (channels / groups) * slots + run.slot; }
  int64_t group_of(int64_t channel) const { return channel * groups / channels; }

  // visit(place in a table, channel of the line) for one period.
  template <class Visit>
  void each_place(Visit visit) const {
    if (period == 1) return visit(0, 0);
    const int64_t lanes = width();
    const int64_t two = type_ == Type::kBFloat16, step = lanes << two;  // neighbours share a lane, see vectors.inl
    for (int64_t begin = 0, channel = 0; begin < period; begin += step) {
      for (int64_t i = 0; i < step; ++i) {
        visit(begin + (i & two) * lanes + (i >> two), channel);
        if (++channel == per_line) channel = 0;
      }
    }
  }

  // work(begin, end) for ranges of the runs of samples first .. first + count, in parallel.
  template <class Work>
  void each_run(int64_t first, int64_t count, Work work) const {
    const int64_t worthwhile = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, slot_length_));
    at::parallel_for(runs(first), runs(first + count), worthwhile, work);
  }

  // So many samples that what the first pass over them has read is still in the caches for the second.
  int64_t samples_at_a_time() const {
    return std::clamp<int64_t>(kCached / std::max<int64_t>(1, channels * voxels), 1, std::max<int64_t>(1, samples));
  }

  const int64_t samples, channels, groups, voxels;
  int64_t per_line;  // channels that a line passes through
  int64_t slots;     // of a line
  int64_t whole;     // elements: strips of the kernels, after which the channels repeat or the line has ended
  int64_t period;    // of the tables: `whole`, or 1 if a line has only one channel

 private:
  static constexpr int64_t kSmallest = 1 << 14;  // elements worth another slot
  static constexpr int64_t kMost = 64;           // slots of a line
  static constexpr int64_t kGrain = 1 << 15;     // elements worth another thread
  static constexpr int64_t kCached = 1 << 19;    // elements

  int64_t width() const { return kernels().lanes * (type_ == Type::kDouble ? 1 : 2); }  // elements of a vector

  Type type_;
  int64_t slot_length_;
};

}  // namespace gmd::cpu
