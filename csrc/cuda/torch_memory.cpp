#include "torch_memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>

#include <map>
#include <tuple>

namespace gmd::cuda {
namespace {

at::TensorOptions on(c10::cuda::CUDAStream stream, at::ScalarType type) {
  return at::TensorOptions().device(stream.device()).dtype(type);
}

bool holds(const at::Tensor& memory, int64_t size) { return memory.defined() && memory.numel() >= size; }

}  // namespace

Device device_of(c10::DeviceIndex index) {
  Device device{};
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, index));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&device.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
  return device;
}

Table Memory::table(Plan plan, c10::cuda::CUDAStream stream) {
  const auto count = static_cast<int64_t>(plan.words.size());
  if (!holds(words_, count)) words_ = at::empty({count}, on(stream, at::kLong));
  auto* words = reinterpret_cast<uint64_t*>(words_.mutable_data_ptr<int64_t>());
  if (plan.words != uploaded_) {
    uploaded_.clear();  // whatever is there if the upload fails
    C10_CUDA_CHECK(launch_upload(plan.words.data(), count, words, stream));
    uploaded_ = std::move(plan.words);
  }
  return {words, plan.layout};
}

Workspace Memory::workspace(const Layout& layout, const Device& device, c10::cuda::CUDAStream stream) {
  const int64_t num_partials = partials_size(layout, device);
  if (!holds(partials_, num_partials)) partials_ = at::empty({num_partials}, on(stream, at::kDouble));
  return {counters(counters_size(layout), stream), partials_.mutable_data_ptr<double>()};
}

uint32_t* Memory::counters(int64_t count, c10::cuda::CUDAStream stream) {
  if (!holds(counters_, count)) counters_ = at::zeros({count}, on(stream, at::kInt));
  return reinterpret_cast<uint32_t*>(counters_.mutable_data_ptr<int32_t>());
}

void with_memory(c10::cuda::CUDAStream stream, Call call, const std::function<void(Memory&)>& work) {
  if (c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None) {
    Memory of_the_graph;  // from its pool: only what follows in the graph may have the same memory
    return work(of_the_graph);
  }
  static std::mutex mutex;
  static auto& memories = *new std::map<std::tuple<c10::DeviceIndex, c10::StreamId, Call>, Memory>;  // outlives CUDA
  const std::lock_guard<std::mutex> lock(mutex);
  work(memories[{stream.device_index(), stream.id(), call}]);
}

}  // namespace gmd::cuda
