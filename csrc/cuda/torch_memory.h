// What the kernels keep on the device from call to call.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>

#include <functional>
#include <mutex>
#include <vector>

#include "kernels.h"

namespace gmd::cuda {

Device device_of(c10::DeviceIndex index);

// Of one stream, for one kind of call: calls on it follow each other, so that what one of them read the next may
// change.
class Memory {
 public:
  // The plan on the device. It is uploaded only if it differs from the one before, in a training loop hardly ever.
  Table table(Plan plan, c10::cuda::CUDAStream stream);
  Workspace workspace(const Layout& layout, const Device& device, c10::cuda::CUDAStream stream);
  // Zeros when they are made. Whoever counts with them leaves zeros, or what is meant for the next call.
  uint32_t* counters(int64_t count, c10::cuda::CUDAStream stream);

 private:
  std::vector<uint64_t> uploaded_;
  at::Tensor words_, counters_, partials_;
};

enum class Call { kGram, kCombine, kSurgery, kSketch, kNorm };

// Runs `work` with the memory that belongs to the stream and this kind of call, one thread at a time. While a graph is
// captured it gets memory of the graph's own, since nobody else may write to what its replays read.
void with_memory(c10::cuda::CUDAStream stream, Call call, const std::function<void(Memory&)>& work);

}  // namespace gmd::cuda
