#include "group_norm_relu.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/TracerMode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/python_variable.h>

#include <cstdlib>
#include <cstring>

#include "ops.h"
#include "read.h"

namespace gmd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Arguments {
  at::Tensor x, weight, bias;
  std::optional<at::Tensor> rows;  // always there on the CPU
  int64_t num_groups;
  double eps;
};

at::Tensor default_rows(const at::Tensor& x, const at::Tensor& weight) {
  const auto options = x.options().dtype(at::kLong);
  return weight.size(0) == 1 ? at::zeros({x.size(0)}, options) : at::arange(x.size(0), options);
}

const at::Tensor* ordinary(pybind11::handle object) {
  if (!THPVariable_Check(object.ptr())) return nullptr;
  const at::Tensor& t = THPVariable_Unpack(object.ptr());
  return is_ordinary(t) && !t._fw_grad(0).defined() ? &t : nullptr;
}

bool lies_plainly(const at::Tensor& x) {
  return x.is_contiguous() || (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
         (x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

bool is_table(const at::Tensor& table, const at::Tensor& x) {
  const at::ScalarType number = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return table.dim() == 2 && table.size(1) == x.size(1) && table.scalar_type() == number &&
         table.device() == x.device();
}

bool are_rows(const at::Tensor& rows, const at::Tensor& x, int64_t num_rows) {
  if (rows.scalar_type() != at::kLong || rows.layout() != at::kStrided || at::isTensorSubclassLike(rows) ||
      rows.dim() != 1 || rows.size(0) != x.size(0) || rows.device() != x.device()) {
    return false;
  }
  if (!rows.is_cpu()) return true;  // to look at the values would wait for the device
  const auto* row = rows.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.size(0); ++i) {
    if (const int64_t at = row[i * rows.stride(0)]; at < 0 || at >= num_rows) return false;
  }
  return true;
}

// Whether the kernels of the tensor's own device are there, and GMD_BACKEND asks for no others.
bool are_served(const at::Tensor& x) {
  const char* forced = std::getenv("GMD_BACKEND");
  if (forced && *forced && std::strcmp(forced, x.is_cpu() ? "cpu" : "cuda") != 0) return false;
#ifdef GMD_WITH_CUDA
  if (x.is_cuda()) return serves_cuda(x.device().index());
#endif
  if (!x.is_cpu()) return false;
  try {
    cpu_isa();
    return true;
  } catch (const std::exception&) {  // GMD_CPU_ISA names none
    return false;
  }
}

bool is_type_of_x(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble;
}

// torch records every op, or torch.func is at work.
bool is_watched() {
  return at::tracer::impl::is_dispatch_enabled() ||
         c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

std::optional<Arguments> read(pybind11::handle x, pybind11::handle weight, pybind11::handle bias,
                              pybind11::handle num_groups, pybind11::handle rows, pybind11::handle eps) {
  const at::Tensor *values = ordinary(x), *w = ordinary(weight), *b = ordinary(bias);
  if (!values || !w || !b || !PyLong_Check(num_groups.ptr()) || !PyFloat_Check(eps.ptr()) || is_watched()) return {};
  if (!is_type_of_x(values->scalar_type()) || values->dim() < 2 || !lies_plainly(*values)) return {};
  if (!is_table(*w, *values) || !is_table(*b, *values) || w->sizes() != b->sizes()) return {};
  int overflow = 0;
  const int64_t groups = PyLong_AsLongLongAndOverflow(num_groups.ptr(), &overflow), channels = values->size(1);
  const double add = PyFloat_AS_DOUBLE(eps.ptr());
  if (overflow || groups < 1 || channels < 1 || channels % groups != 0 || !(add >= 0)) return {};
  Arguments found{*values, *w, *b, std::nullopt, groups, add};
  if (rows.is_none()) {
    if (w->size(0) != 1 && w->size(0) != values->size(0)) return {};
    if (values->is_cpu()) found.rows = default_rows(*values, *w);
  } else {
    if (!THPVariable_Check(rows.ptr())) return {};
    found.rows = THPVariable_Unpack(rows.ptr());
    if (!are_rows(*found.rows, *values, w->size(0))) return {};
  }
  if (!are_served(*values)) return {};
  return found;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> forward_of(const Arguments& a) {
#ifdef GMD_WITH_CUDA
  if (a.x.is_cuda()) return group_norm_relu_cuda(a.x, a.weight, a.bias, a.rows, a.num_groups, a.eps);
#endif
  return group_norm_relu_cpu(a.x, a.weight, a.bias, *a.rows, a.num_groups, a.eps);
}

// x, weight, bias, rows, mean, rstd as the forward pass left them; undefined rows: the default ones.
std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor> backward_of(const at::Tensor& grad,
                                                                          const variable_list& saved, bool needs_x) {
  const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &rows = saved[3];
  if (!is_ordinary(grad)) {  // many gradients at a time (is_grads_batched=True), or torch sees every op
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("gmd::group_norm_relu_backward", "")
                               .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
                                   const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                   const at::Tensor&, const at::Tensor&, const at::Tensor&, bool)>();
    const at::Tensor which = rows.defined() ? rows : default_rows(x, weight);
    return op.call(grad, x, weight, bias, which, saved[4], saved[5], needs_x);
  }
#ifdef GMD_WITH_CUDA
  if (x.is_cuda()) {
    const auto which = rows.defined() ? std::optional<at::Tensor>(rows) : std::nullopt;
    return group_norm_relu_backward_cuda(grad, x, weight, bias, which, saved[4], saved[5], needs_x);
  }
#endif
  return group_norm_relu_backward_cpu(grad, x, weight, bias, rows, saved[4], saved[5], needs_x);
}

struct GroupNormReLU : torch::autograd::Function<GroupNormReLU> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const Arguments& arguments) {
    const auto [y, mean, rstd] = forward_of(arguments);
    ctx->save_for_backward({x, weight, bias, arguments.rows.value_or(at::Tensor()), mean, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "group_norm_relu: differentiable once, expected a backward pass without create_graph=True");
    const bool needs_x = ctx->needs_input_grad(0);
    const auto [dx, dweight, dbias] = backward_of(grads[0], ctx->get_saved_variables(), needs_x);
    return {needs_x ? dx.value() : at::Tensor(), dweight, dbias, at::Tensor()};
  }
};

}  // namespace

std::optional<at::Tensor> group_norm_relu(pybind11::handle x, pybind11::handle weight, pybind11::handle bias,
                                          pybind11::handle num_groups, pybind11::handle rows, pybind11::handle eps) {
  const std::optional<Arguments> a = read(x, weight, bias, num_groups, rows, eps);
  if (!a) return std::nullopt;
  const pybind11::gil_scoped_release others_may_run;
  if (at::GradMode::is_enabled() && (a->x.requires_grad() || a->weight.requires_grad() || a->bias.requires_grad())) {
    return GroupNormReLU::apply(a->x, a->weight, a->bias, *a);
  }
  return std::get<0>(forward_of(*a));
}

}  // namespace gmd
