// group_norm_relu on torch's tensors: memory and streams for the launches of norm/norm.h.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAGuard.h>

#include <array>
#include <atomic>
#include <limits>

#include "../ops.h"
#include "norm/norm.h"
#include "torch_memory.h"
#include "torch_sources.h"

namespace gmd {
namespace {

// The tensors of one call as the kernels read them, and what is made for it.
class Call {
 public:
  Call(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias, const std::optional<at::Tensor>& rows,
       int64_t num_groups)
      : x(lying(given)),
        stream(c10::cuda::getCurrentCUDAStream()),
        weight_(weight.resolve_neg().contiguous()),
        bias_(bias.resolve_neg().contiguous()),
        rows_(rows ? rows->contiguous() : at::Tensor()),
        num_groups_(num_groups) {}

  // What is read or written beside x, whose order of elements it shares.
  cuda::NormTask task(const void* other) const {
    const int64_t samples = x.size(0), channels = x.size(1);
    TORCH_CHECK(channels <= std::numeric_limits<int32_t>::max(), "x: expected fewer than 2^31 channels, got ",
                channels);
    const auto bits = reinterpret_cast<uintptr_t>(x.const_data_ptr()) | reinterpret_cast<uintptr_t>(other);
    const cuda::NormShape shape{samples,
                                x.numel() / (samples * channels),
                                static_cast<int32_t>(channels),
                                static_cast<int32_t>(num_groups_),
                                cuda::type_of(x.scalar_type()),
                                !x.is_contiguous(),
                                bits % 16 == 0};
    const cuda::NormTask task = cuda::norm_task(shape, cuda::device_of(stream.device_index()));
    TORCH_CHECK(task.cut.blocks(samples) + weight_.numel() <= std::numeric_limits<int32_t>::max(),
                "x: expected fewer samples and channels, got ", x.sizes());
    return task;
  }

  cuda::NormAffine affine() const {
    const int64_t* rows = rows_.defined() ? rows_.const_data_ptr<int64_t>() : nullptr;
    return {weight_.const_data_ptr(), bias_.const_data_ptr(), {rows, weight_.size(0)}};
  }

  // launch(workspace), whose memory is anything before and belongs to nobody afterwards.
  template <class Launch>
  void with_workspace(const cuda::NormTask& task, Launch launch) const {
    const at::Tensor memory = at::empty({cuda::norm_memory(task)}, x.options().dtype(at::kDouble));
    cuda::with_memory(stream, cuda::Call::kNorm, [&](cuda::Memory& kept) {
      C10_CUDA_CHECK(launch(
          cuda::NormWorkspace{kept.counters(cuda::norm_counters(task), stream), memory.mutable_data_ptr<double>()}));
    });
  }

  at::Tensor like_weight() const { return at::empty_like(weight_); }
  at::Tensor statistics() const { return at::empty({x.size(0), num_groups_}, weight_.options()); }

  const at::Tensor x;
  const c10::cuda::CUDAStream stream;

 private:
  // Channel by channel or voxel by voxel, copied if it does not lie so.
  static at::Tensor lying(const at::Tensor& given) {
    const at::Tensor x = given.resolve_neg();
    return x.is_contiguous() || x.movedim(1, -1).is_contiguous() ? x : x.contiguous();
  }

  const at::Tensor weight_, bias_, rows_;
  const int64_t num_groups_;
};

at::Tensor laid_out_as(const at::Tensor& x, const at::Tensor& grad) {
  if (grad.strides() == x.strides() && !grad.is_neg()) return grad;
  return at::empty_like(x).copy_(grad);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_relu_cuda(const at::Tensor& given, const at::Tensor& weight,
                                                                    const at::Tensor& bias,
                                                                    const std::optional<at::Tensor>& rows,
                                                                    int64_t num_groups, double eps) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(given.device());
  const Call call(given, weight, bias, rows, num_groups);
  at::Tensor y = at::empty_like(call.x), mean = call.statistics(), rstd = call.statistics();
  if (y.numel() == 0) return {y, mean.zero_(), rstd.zero_()};
  const cuda::NormTask task = call.task(y.const_data_ptr());
  const void* x = call.x.const_data_ptr();
  void *means = mean.mutable_data_ptr(), *rstds = rstd.mutable_data_ptr();
  call.with_workspace(task, [&](const cuda::NormWorkspace& workspace) {
    const cudaError_t error = cuda::launch_norm_moments(task, x, workspace, eps, means, rstds, call.stream);
    if (error != cudaSuccess) return error;
    return cuda::launch_norm_apply(task, x, call.affine(), {means, rstds}, y.mutable_data_ptr(), call.stream);
  });
  return {y, mean, rstd};
}

std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor> group_norm_relu_backward_cuda(
    const at::Tensor& given_grad, const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias,
    const std::optional<at::Tensor>& rows, const at::Tensor& given_mean, const at::Tensor& given_rstd, bool needs_x) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(given.device());
  const Call call(given, weight, bias, rows, given_mean.size(1));
  const at::Tensor grad = laid_out_as(call.x, given_grad), mean = given_mean.contiguous();
  const at::Tensor rstd = given_rstd.contiguous();
  at::Tensor dweight = call.like_weight(), dbias = call.like_weight();
  std::optional<at::Tensor> dx;
  if (needs_x) dx = at::empty_like(call.x);
  if (grad.numel() == 0) return {dx, dweight.zero_(), dbias.zero_()};
  const void *x = call.x.const_data_ptr(), *dy = grad.const_data_ptr();
  void* target = dx ? dx->mutable_data_ptr() : nullptr;
  const cuda::NormTask task = call.task(dy);
  const cuda::NormStatistics statistics{mean.const_data_ptr(), rstd.const_data_ptr()};
  call.with_workspace(task, [&](const cuda::NormWorkspace& workspace) {
    const cuda::NormAffine affine = call.affine();
    const cudaError_t error = cuda::launch_norm_products(task, dy, x, affine, statistics, workspace, call.stream);
    if (error != cudaSuccess) return error;
    return cuda::launch_norm_gradient(task, dy, x, affine, statistics, workspace, dweight.mutable_data_ptr(),
                                      dbias.mutable_data_ptr(), target, call.stream);
  });
  return {dx, dweight, dbias};
}

bool serves_cuda(int64_t index) {
  enum : int { kUnknown, kServed, kNotServed };
  static std::array<std::atomic<int>, 64> found{};  // by index; beyond: asked each time
  static_assert(kUnknown == 0);
  if (index < 0 || index >= static_cast<int64_t>(found.size())) return !why_not_cuda(index);
  int known = found[index].load(std::memory_order_relaxed);
  if (known == kUnknown) {
    known = why_not_cuda(index) ? kNotServed : kServed;
    found[index].store(known, std::memory_order_relaxed);
  }
  return known == kServed;
}

}  // namespace gmd
