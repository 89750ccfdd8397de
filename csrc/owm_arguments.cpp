#include "owm_arguments.h"

#include <torch/csrc/autograd/python_variable.h>

#include <cmath>

#include "read.h"

namespace gmd {
namespace {

const at::Tensor* plain_tensor(pybind11::handle object) {
  if (!THPVariable_Check(object.ptr())) return nullptr;
  const at::Tensor& x = THPVariable_Unpack(object.ptr());
  return is_ordinary(x) && x.is_contiguous() && !x.is_neg() && x.numel() > 0 ? &x : nullptr;
}

bool is_square(const at::Tensor& x) {
  return x.dim() == 2 && x.size(0) == x.size(1) && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

bool goes_with(at::ScalarType grad, at::ScalarType projector) {
  return grad == projector || (projector == at::kFloat && (grad == at::kBFloat16 || grad == at::kHalf));
}

// Of tensors that are contiguous.
bool are_apart(const at::Tensor& a, const at::Tensor& b) {
  const auto *first = static_cast<const char*>(a.const_data_ptr()),
             *second = static_cast<const char*>(b.const_data_ptr());
  return first + a.nbytes() <= second || second + b.nbytes() <= first;
}

}  // namespace

bool usual_owm(pybind11::handle projector, pybind11::handle weight_grad, pybind11::handle mean_input,
               pybind11::handle alpha) {
  const at::Tensor *p = plain_tensor(projector), *grad = plain_tensor(weight_grad), *h = plain_tensor(mean_input);
  if (!p || !grad || !h || !PyFloat_Check(alpha.ptr()) || !is_square(*p)) return false;
  const double value = PyFloat_AS_DOUBLE(alpha.ptr());
  const bool types = goes_with(grad->scalar_type(), p->scalar_type()) && h->scalar_type() == p->scalar_type();
  const bool shapes = grad->dim() == 2 && grad->size(1) == p->size(1) && h->dim() == 1 && h->size(0) == p->size(1);
  const bool places = grad->device() == p->device() && h->device() == p->device() && are_apart(*p, *grad) &&
                      are_apart(*p, *h) && are_apart(*grad, *h);
  return types && shapes && places && !p->requires_grad() && !grad->requires_grad() && value > 0 &&
         std::isfinite(value);
}

}  // namespace gmd
