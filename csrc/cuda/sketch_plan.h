// What the kernels of the sketch know of the gradients, and how large their launches are. Plain C++.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../sketch_map.h"
#include "plan.h"

namespace gmd::cuda {

constexpr int kSketchLanes = 16;                     // buckets of a thread, 32 apart
constexpr int kWarpBuckets = 32 * kSketchLanes;      // of a warp, in a row
constexpr int kSketchRange = kWarps * kWarpBuckets;  // of a block of threads

// One parameter's gradient, in row-major order.
struct SketchSource {
  const char* data;     // on the device
  int64_t numel;        // above 0
  int64_t first_block;  // of d elements, among those of all parameters
  int64_t index;        // among the parameters that the user gave
  int64_t type;         // a Type
};

// Each slice of the gradient's blocks has a sketch of its own, which a second launch adds up.
struct SketchTask {
  int64_t d;
  uint64_t seed;
  int64_t blocks;  // of d elements
  Type type;       // of the sketch: kFloat or kDouble
  int ranges;      // of kSketchRange buckets, the last may be shorter
  int slices;
};

inline int64_t sketch_blocks(int64_t numel, int64_t d) { return (numel + d - 1) / d; }

// The gradients' table: its words are the sources. `first_block` is found here.
inline Plan make_sketch_plan(std::vector<SketchSource>& sources, int64_t d) {
  Plan plan;
  int64_t blocks = 0;
  for (SketchSource& source : sources) {
    source.first_block = blocks;
    blocks += sketch_blocks(source.numel, d);
  }
  plan.layout.num_descriptors = static_cast<int32_t>(sources.size());
  plan.layout.units = blocks;
  plan.words.resize(sources.size() * sizeof(SketchSource) / 8);
  if (!sources.empty()) std::memcpy(plan.words.data(), sources.data(), plan.words.size() * 8);
  return plan;
}

// Slices of eight blocks at least, as long as that gives no more than a thousand blocks of threads: sizes alone decide.
inline SketchTask sketch_task(const Layout& layout, int64_t d, uint64_t seed, Type type) {
  const int64_t ranges = (d + kSketchRange - 1) / kSketchRange, most = std::max<int64_t>(1, 1024 / ranges);
  return {d,
          seed,
          layout.units,
          type,
          static_cast<int>(ranges),
          static_cast<int>(std::clamp<int64_t>(layout.units / 8, 1, most))};
}

}  // namespace gmd::cuda
