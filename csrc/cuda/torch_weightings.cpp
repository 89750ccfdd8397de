// The weightings on torch's tensors: streams and memory for the launches of weightings/weightings.h.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <functional>

#include "../ops.h"
#include "weightings/weightings.h"

namespace gmd {
namespace {

const double* numbers_of(const at::Tensor& tensor) { return tensor.const_data_ptr<double>(); }

at::Tensor plain(const at::Tensor& tensor) { return tensor.resolve_neg().contiguous(); }

// What a launch updates in place: the tensor itself, or a copy that it gets back, where it lies in another way.
class Updated {
 public:
  explicit Updated(const at::Tensor& tensor) : tensor_(tensor), lying_(plain(tensor)) {}
  double* data() const { return lying_.mutable_data_ptr<double>(); }
  void finish() const {
    if (!lying_.is_same(tensor_)) {
      tensor_.copy_(lying_);
    } else if (!tensor_.is_inference()) {
      tensor_.unsafeGetTensorImpl()->bump_version();  // autograd has to know
    }
  }

 private:
  at::Tensor tensor_, lying_;
};

using Launch = std::function<cudaError_t(const cuda::Gramians&, double*, cudaStream_t)>;

// Weights [..., T] from a launch on the current stream of the Gramian's device.
at::Tensor weigh(const at::Tensor& gram, const Launch& launch) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(gram.device());
  const at::Tensor grams = plain(gram);
  const int64_t t = grams.size(-1);
  at::Tensor weights = at::empty(grams.sizes().slice(0, grams.dim() - 1), grams.options());
  C10_CUDA_CHECK(launch({numbers_of(grams), grams.numel() / (t * t), static_cast<int>(t)},
                        weights.mutable_data_ptr<double>(), c10::cuda::getCurrentCUDAStream()));
  return weights;
}

at::Tensor spectral(const at::Tensor& gram, cuda::Spectral method, const double* preference) {
  return weigh(gram, [&](const cuda::Gramians& grams, double* weights, cudaStream_t stream) {
    return cuda::launch_spectral(grams, method, preference, weights, stream);
  });
}

at::Tensor program(const at::Tensor& gram, cuda::Program program, const double* preference, double max_norm) {
  return weigh(gram, [&](const cuda::Gramians& grams, double* weights, cudaStream_t stream) {
    return cuda::launch_program(grams, program, preference, max_norm, weights, stream);
  });
}

}  // namespace

at::Tensor imtl_g_cuda(const at::Tensor& gram) { return spectral(gram, cuda::Spectral::kImtlG, nullptr); }

at::Tensor config_cuda(const at::Tensor& gram) { return spectral(gram, cuda::Spectral::kConfig, nullptr); }

at::Tensor aligned_mtl_cuda(const at::Tensor& gram, const at::Tensor& preference, const std::string& scale_mode) {
  const auto method = scale_mode == "min"      ? cuda::Spectral::kAlignedLeast
                      : scale_mode == "median" ? cuda::Spectral::kAlignedMedian
                                               : cuda::Spectral::kAlignedMean;
  const c10::cuda::CUDAGuard guard(gram.device());
  const at::Tensor preferred = plain(preference);
  return spectral(gram, method, numbers_of(preferred));
}

at::Tensor mgda_cuda(const at::Tensor& gram) { return program(gram, cuda::Program::kMgda, nullptr, 0); }

at::Tensor nash_mtl_cuda(const at::Tensor& gram, const std::optional<double>& max_norm) {
  return program(gram, cuda::Program::kNashMtl, nullptr, max_norm.value_or(0));
}

at::Tensor dualproj_cuda(const at::Tensor& gram, const at::Tensor& preference) {
  const c10::cuda::CUDAGuard guard(gram.device());
  const at::Tensor preferred = plain(preference);
  return program(gram, cuda::Program::kDualproj, numbers_of(preferred), 0);
}

at::Tensor upgrad_cuda(const at::Tensor& gram, const at::Tensor& preference) {
  const c10::cuda::CUDAGuard guard(gram.device());
  const at::Tensor preferred = plain(preference);
  at::Tensor shares = at::empty(gram.sizes(), gram.options());
  return weigh(gram, [&](const cuda::Gramians& grams, double* weights, cudaStream_t stream) {
    return cuda::launch_upgrad(grams, numbers_of(preferred), shares.mutable_data_ptr<double>(), weights, stream);
  });
}

at::Tensor cagrad_cuda(const at::Tensor& gram, double c) {
  return weigh(gram, [&](const cuda::Gramians& grams, double* weights, cudaStream_t stream) {
    return cuda::launch_cagrad(grams, c, weights, stream);
  });
}

at::Tensor pcd_cuda(const at::Tensor& gram, int64_t primary, double tau, const std::optional<at::Tensor>& taus,
                    const std::optional<at::Tensor>& state) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(gram.device());
  std::optional<at::Tensor> shares;
  if (taus) shares = plain(*taus);
  std::optional<Updated> updated;
  if (state) updated.emplace(*state);
  const cuda::PcdOptions options{static_cast<int>(primary), tau, shares ? numbers_of(*shares) : nullptr,
                                 updated ? updated->data() : nullptr};
  at::Tensor weights = weigh(gram, [&](const cuda::Gramians& grams, double* found, cudaStream_t stream) {
    return cuda::launch_pcd(grams, options, found, stream);
  });
  if (updated) updated->finish();
  return weights;
}

at::Tensor fairgrad_cuda(const at::Tensor& gram, double alpha) {
  return weigh(gram, [&](const cuda::Gramians& grams, double* weights, cudaStream_t stream) {
    return cuda::launch_fairgrad(grams, alpha, weights, stream);
  });
}

at::Tensor gradvac_cuda(const at::Tensor& gram, const at::Tensor& cosines, const at::Tensor& order, double beta) {
  const c10::NoGradGuard no_grad;
  const c10::cuda::CUDAGuard guard(gram.device());
  const at::Tensor met = order.contiguous();
  const Updated updated(cosines);
  at::Tensor weights = weigh(gram, [&](const cuda::Gramians& grams, double* found, cudaStream_t stream) {
    return cuda::launch_gradvac(grams, met.const_data_ptr<int64_t>(), beta, updated.data(), found, stream);
  });
  updated.finish();
  return weights;
}

}  // namespace gmd
