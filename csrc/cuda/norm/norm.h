// relu(group_norm(x) * weight + bias) and its derivatives: how a tensor is cut for the kernels, and their launches.
// Each way takes two. Plain C++.
//
// The first kernel of each way goes through all elements, and leaves two numbers for every channel of every slot of
// voxels; the last of the blocks that share a group adds these up in float64, always in the same order. The second
// kernel goes through all elements again, from the last to the first: what was read last is still in the cache.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "../plan.h"

namespace gmd::cuda {

constexpr int kNormColumns = 32;  // threads beside each other along a row, at most
constexpr int kNormBlocks = 12;   // for each multiprocessor; whole rounds of the 3 or 2 that are on it together

// x: [n, C, V] in memory, or [n, V, C] with the channels together.
struct NormShape {
  int64_t samples, voxels;
  int32_t channels, groups;
  Type type;
  bool together;
  bool aligned;  // x, its gradients and y lie at multiples of 16 bytes

  GMD_BOTH int32_t group() const { return channels / groups; }  // channels of one
};

// How the blocks of threads share a tensor. Its rows are voxels where the channels lie together, else accesses along
// one channel. A block has the rows of one slot of one sample, and of them `width` channels.
struct NormCut {
  int32_t elements;  // of an access: those of 16 bytes, or 1
  int32_t columns;   // threads beside each other along a row
  int32_t rows;      // rows that a block's threads have at a time
  int32_t width;     // channels
  int32_t chunks;    // blocks beside each other, for all channels
  int32_t slots;
  int32_t domain;   // channels whose sums are added up by the last of their blocks: whole groups
  int32_t domains;  // of a sample
  int64_t length;   // rows of a sample (of a channel, where these lie apart)
  int64_t span;     // rows of a slot; the last may have fewer

  int64_t blocks(int64_t samples) const { return samples * slots * chunks; }
};

struct NormTask {
  NormShape shape;
  NormCut cut;
};

// One row of the affine for each sample.
struct NormRows {
  const int64_t* of_sample;  // [n]; null: row i for sample i, or the only row
  int64_t count;             // R
};

// Pointers to the device's memory. `Scalar` is float32, for float64 x float64.
struct NormAffine {
  const void *weight, *bias;  // [R, C] Scalar
  NormRows rows;
};
struct NormStatistics {
  const void *mean, *rstd;  // [n, G] Scalar
};

// Between the blocks of a launch. The counters are zeros before the first launch ever; each launch leaves them so.
struct NormWorkspace {
  uint32_t* counters;  // [norm_counters]
  double* memory;      // [norm_memory], anything
};

inline int64_t rounded_up(int64_t value, int64_t step) { return (value + step - 1) / step; }

// Shapes and the device alone decide: sums are the same bits from run to run.
inline NormTask norm_task(NormShape shape, const Device& device) {
  const int per_vector = 16 / size_of(shape.type);
  shape.together |= shape.voxels == 1;
  const bool vectors = shape.aligned && (shape.together ? int64_t{shape.channels} : shape.voxels) % per_vector == 0;
  NormCut cut{};
  cut.elements = vectors ? per_vector : 1;
  const int across = shape.together ? shape.channels / cut.elements : 1;  // threads for all channels of a row
  cut.chunks = static_cast<int32_t>(rounded_up(across, kNormColumns));
  cut.columns = static_cast<int32_t>(rounded_up(across, cut.chunks));
  cut.rows = kThreads / cut.columns;
  cut.width = shape.together ? cut.columns * cut.elements : 1;
  if (!shape.together) cut.chunks = shape.channels;
  cut.length = shape.together ? shape.voxels : shape.voxels / cut.elements;
  const int64_t wanted =
      rounded_up(int64_t{kNormBlocks} * device.multiprocessors, std::max<int64_t>(1, shape.samples * cut.chunks));
  const int64_t steps = std::max<int64_t>(1, rounded_up(cut.length, cut.rows));
  cut.span = rounded_up(steps, std::min(wanted, steps)) * cut.rows;
  cut.slots = static_cast<int32_t>(rounded_up(std::max<int64_t>(1, cut.length), cut.span));
  const int32_t group = shape.group();
  cut.domain = cut.width % group == 0 ? cut.width : group % cut.width == 0 ? group : shape.channels;
  cut.domains = static_cast<int32_t>(rounded_up(shape.channels, cut.domain));
  return {shape, cut};
}

inline int64_t norm_counters(const NormTask& task) { return task.shape.samples * task.cut.domains; }

// Numbers for two Scalars of each channel of each slot, and behind these two of each channel and of each group.
GMD_BOTH inline int64_t norm_partials(const NormTask& task) {
  const int numbers = task.shape.type == Type::kDouble ? 2 : 1;
  return task.shape.samples * task.shape.channels * task.cut.slots * numbers;
}
inline int64_t norm_memory(const NormTask& task) {
  return norm_partials(task) + 2 * task.shape.samples * (task.shape.channels + task.shape.groups);
}

// -> mean, rstd [n, G] Scalar. Everything that is launched here is for at least one element.
cudaError_t launch_norm_moments(const NormTask& task, const void* x, const NormWorkspace& workspace, double eps,
                                void* mean, void* rstd, cudaStream_t stream);

// -> y as x
cudaError_t launch_norm_apply(const NormTask& task, const void* x, const NormAffine& affine,
                              const NormStatistics& statistics, void* y, cudaStream_t stream);

// The sums of the gradient where the ReLU let its argument pass, and of its products with the normalised x; they stay
// in the workspace, for launch_norm_gradient.
cudaError_t launch_norm_products(const NormTask& task, const void* grad, const void* x, const NormAffine& affine,
                                 const NormStatistics& statistics, const NormWorkspace& workspace, cudaStream_t stream);

// -> dweight, dbias [R, C] Scalar, zeros for a row that no sample takes; dx as x, unless null.
cudaError_t launch_norm_gradient(const NormTask& task, const void* grad, const void* x, const NormAffine& affine,
                                 const NormStatistics& statistics, const NormWorkspace& workspace, void* dweight,
                                 void* dbias, void* dx, cudaStream_t stream);

}  // namespace gmd::cuda
