// The ops on torch's tensors: streams, memory and generators for the launches of kernels.h.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAGuard.h>

#include "../ops.h"
#include "torch_memory.h"
#include "torch_sources.h"

namespace gmd {
namespace {

using c10::cuda::CUDAStream;

at::Device device_of(const Gradients& grads) { return grads.tensors.at(0)->device(); }

at::Tensor empty_on(at::Device device, at::IntArrayRef sizes, at::ScalarType type = at::kDouble) {
  return at::empty(sizes, at::TensorOptions().device(device).dtype(type));
}

cuda::Philox philox_of(const std::optional<at::Generator>& generator, at::Device device) {
  auto* source = at::get_generator_or_default<at::CUDAGeneratorImpl>(
      generator, at::cuda::detail::getDefaultCUDAGenerator(device.index()));
  const std::lock_guard<std::mutex> lock(source->mutex_);
  const at::PhiloxCudaState state = source->philox_cuda_state(cuda::kPhiloxIncrement);
  cuda::Philox philox;
  if (state.captured_) {
    philox.seed_at = state.seed_.ptr;
    philox.offset_at = state.offset_.ptr;
    philox.offset_intragraph = state.offset_intragraph_;
  } else {
    philox.seed = state.seed_.val;
    philox.offset = state.offset_.val;
  }
  return philox;
}

// The one given, brought to the device where it is not there yet, or one to be drawn.
cuda::Order order_of(std::optional<at::Tensor>& given, const std::optional<at::Generator>& generator,
                     at::Device device) {
  cuda::Order order;
  if (!given) {
    order.philox = philox_of(generator, device);
    return order;
  }
  given = given->contiguous();
  if (given->is_cpu()) given = upload(*given, device);
  order.given = given->const_data_ptr<int64_t>();
  return order;
}

// In one launch where that fits, and three otherwise, of the same bits.
cudaError_t launch_gmd(const cuda::Table& table, const cuda::Device& device, const cuda::Workspace& workspace,
                       const cuda::Order& order, bool mean, double* gram, double* weights, CUDAStream stream) {
  if (cuda::fits_surgery(table.layout, device)) {
    const cudaError_t error = cuda::launch_surgery(table, device, workspace, order, mean, gram, weights, stream);
    if (error != cudaErrorCooperativeLaunchTooLarge && error != cudaErrorNotSupported) return error;
    cudaGetLastError();  // not all of the device is ours, or it has no such launches
  }
  const int t = table.layout.num_objectives, k = table.layout.num_groups;
  const cuda::Weights by_group{weights, cuda::Weights::Rows::kPerGroup, t, 1};
  cudaError_t error = cuda::launch_gram(table, device, workspace, gram, stream);
  if (error == cudaSuccess) error = cuda::launch_weights(gram, k, t, order, nullptr, weights, mean, stream);
  if (error == cudaSuccess) error = cuda::launch_combine(table, device, by_group, stream);
  return error;
}

// Adds parameters to the sketch, and forgets them.
void add_to_sketch(std::vector<cuda::SketchSource>& sources, const at::Tensor& sketch, int64_t seed,
                   CUDAStream stream) {
  cuda::Plan plan = cuda::make_sketch_plan(sources, sketch.numel());
  sources.clear();
  if (plan.words.empty()) return;
  const auto task = cuda::sketch_task(plan.layout, sketch.numel(), seed, cuda::type_of(sketch.scalar_type()));
  at::Tensor partials = at::empty({task.slices, task.d}, sketch.options());
  cuda::with_memory(stream, cuda::Call::kSketch, [&](cuda::Memory& memory) {
    const cuda::Table table = memory.table(std::move(plan), stream);
    C10_CUDA_CHECK(cuda::launch_sketch(table, task, partials.mutable_data_ptr(), stream));
    C10_CUDA_CHECK(cuda::launch_sketch_sum(task, partials.const_data_ptr(), sketch.mutable_data_ptr(), stream));
  });
}

}  // namespace

at::Tensor upload(const at::Tensor& numbers, at::Device device) {
  const c10::cuda::CUDAGuard guard(device);
  at::Tensor there = empty_on(device, numbers.sizes(), at::kLong);
  C10_CUDA_CHECK(cuda::launch_upload(reinterpret_cast<const uint64_t*>(numbers.const_data_ptr<int64_t>()),
                                     numbers.numel(), reinterpret_cast<uint64_t*>(there.mutable_data_ptr<int64_t>()),
                                     c10::cuda::getCurrentCUDAStream()));
  return there;
}

at::Tensor gram_cuda(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(device_of(grads));
  const CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  const cuda::Device device = cuda::device_of(stream.device_index());
  const cuda::Sources sources(grads, groups);
  at::Tensor grams = empty_on(stream.device(), {num_groups, grads.num_objectives, grads.num_objectives});
  cuda::Plan plan = sources.plan(num_groups);
  cuda::with_memory(stream, cuda::Call::kGram, [&](cuda::Memory& memory) {
    const cuda::Table table = memory.table(std::move(plan), stream);
    const cuda::Workspace workspace = memory.workspace(table.layout, device, stream);
    C10_CUDA_CHECK(cuda::launch_gram(table, device, workspace, grams.mutable_data_ptr<double>(), stream));
  });
  return grams;
}

at::Tensor pcgrad_weights_cuda(const at::Tensor& gram, const at::Tensor& order) {
  const c10::cuda::CUDAGuard guard(gram.device());
  const int64_t t = gram.size(-1);
  const at::Tensor grams = gram.resolve_neg().contiguous(), orders = order.contiguous();
  at::Tensor projections = at::empty_like(grams);
  cuda::Order given;
  given.given = orders.const_data_ptr<int64_t>();
  C10_CUDA_CHECK(cuda::launch_weights(grams.const_data_ptr<double>(), grams.numel() / (t * t), static_cast<int>(t),
                                      given, projections.mutable_data_ptr<double>(), nullptr, false,
                                      c10::cuda::getCurrentCUDAStream()));
  return projections;
}

std::vector<std::optional<at::Tensor>> combine_cuda(const Gradients& grads, const at::Tensor& weights,
                                                    std::vector<std::optional<at::Tensor>> out) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(device_of(grads));
  const CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  // a result may lie where the weights do
  const bool given = std::any_of(out.begin(), out.end(), [](const auto& result) { return result.has_value(); });
  const at::Tensor plain = given ? weights.resolve_neg().clone() : weights.resolve_neg();
  const cuda::Weights rows{plain.const_data_ptr<double>(), cuda::Weights::Rows::kPerParameter, plain.stride(0),
                           plain.stride(1)};
  cuda::Sources sources(grads, {});
  sources.write_to(out);
  cuda::Plan plan = sources.plan(1);
  cuda::with_memory(stream, cuda::Call::kCombine, [&](cuda::Memory& memory) {
    const cuda::Table table = memory.table(std::move(plan), stream);
    C10_CUDA_CHECK(cuda::launch_combine(table, cuda::device_of(stream.device_index()), rows, stream));
  });
  sources.finish();
  return out;
}

Merged surgery_cuda(const Gradients& grads, const std::vector<int64_t>& groups, int64_t num_groups,
                    std::optional<at::Tensor> order, const std::optional<at::Generator>& generator, bool mean,
                    std::vector<std::optional<at::Tensor>> out) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(device_of(grads));
  const CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  const cuda::Device device = cuda::device_of(stream.device_index());
  const int64_t t = grads.num_objectives;
  const cuda::Order met = order_of(order, generator, stream.device());
  at::Tensor grams = empty_on(stream.device(), {num_groups, t, t});
  at::Tensor weights = empty_on(stream.device(), {num_groups, 2, t});  // for shared and for private parameters
  auto *gram = grams.mutable_data_ptr<double>(), *rows = weights.mutable_data_ptr<double>();
  cuda::Sources sources(grads, groups);
  sources.write_to(out);
  cuda::Plan plan = sources.plan(num_groups);
  cuda::with_memory(stream, cuda::Call::kSurgery, [&](cuda::Memory& memory) {
    const cuda::Table table = memory.table(std::move(plan), stream);
    const cuda::Workspace workspace = memory.workspace(table.layout, device, stream);
    C10_CUDA_CHECK(launch_gmd(table, device, workspace, met, mean, gram, rows, stream));
  });
  sources.finish();
  return {std::move(out), grams, weights.select(1, 0)};
}

void sketch_cuda(const Gradients& grads, const at::Tensor& sketch, int64_t seed) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(sketch.device());
  const CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  std::vector<cuda::SketchSource> sources;
  for (size_t p = 0; p < grads.parameters.size(); ++p) {
    const Parameter& parameter = grads.parameters[p];
    if (parameter.numel == 0) continue;
    const at::Tensor& gradient = *grads.tensors[parameter.first];
    const bool copied = !gradient.is_contiguous();
    if (copied) add_to_sketch(sources, sketch, seed, stream);  // those before it: one copy at a time
    const at::Tensor lying = copied ? gradient.contiguous() : gradient;
    sources.push_back({static_cast<const char*>(lying.const_data_ptr()), parameter.numel, 0, static_cast<int64_t>(p),
                       static_cast<int64_t>(cuda::type_of(parameter.dtype))});
    if (copied) add_to_sketch(sources, sketch, seed, stream);
  }
  add_to_sketch(sources, sketch, seed, stream);
  if (!sketch.is_inference()) sketch.unsafeGetTensorImpl()->bump_version();  // autograd has to know
}

std::optional<std::string> why_not_cuda(int64_t index) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(index));
  const uint64_t word = 0;
  at::Tensor there = empty_on({at::kCUDA, static_cast<c10::DeviceIndex>(index)}, {1}, at::kLong);
  const cudaError_t error = cuda::launch_upload(
      &word, 1, reinterpret_cast<uint64_t*>(there.mutable_data_ptr<int64_t>()), c10::cuda::getCurrentCUDAStream());
  if (error == cudaSuccess) return std::nullopt;
  cudaGetLastError();  // or the next call, somebody else's, would report it
  return std::string("the device says: ") + cudaGetErrorString(error);
}

}  // namespace gmd
