#include <ATen/Dispatch.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "../ops.h"
#include "rows.h"
#include "slots.h"

namespace gmd {
namespace {

// As at::empty_like, past the dispatcher where that is possible: P of them are a good part of a small call.
at::Tensor empty_for(const Parameter& parameter, const at::Tensor& like) {
  if (!parameter.aligned) return at::empty_like(like);
  return at::detail::empty_strided_cpu(like.sizes(), like.strides(), like.scalar_type());
}

// What one thread works with.
struct Scratch {
  cpu::Buffer copies, widened, window;
};

// The coefficients of the objectives that reach one parameter.
struct Weights {
  double values[cpu::kMaxObjectives];
  // Too large or small for float32, or so large that products might be: everything is done in float64 then. A
  // projection off a gradient of 1e-40 has such a coefficient, and ordinary products.
  bool wide = false;
};

Weights weights_of(const Gradients& grads, const Parameter& parameter, const double* row, int64_t stride) {
  Weights weights;
  for (int i = 0; i < parameter.count; ++i) {
    const double w = weights.values[i] = row[grads.objectives[parameter.first + i] * stride];
    const double magnitude = std::abs(w);
    weights.wide |= magnitude > 0x1p64 || (magnitude < std::numeric_limits<float>::min() && magnitude > 0);
  }
  return weights;
}

template <class E>
void widen(const void* row, int64_t n, double* out) {
  for (int64_t x = 0; x < n; ++x) out[x] = static_cast<const E*>(row)[x];
}

// A window in float64 from beginning to end.
void combine_widened(const Parameter& parameter, const void* const* rows, const double* weights, int64_t n, void* out,
                     cpu::Buffer& buffer) {
  double* widened = buffer.of<double>((parameter.count + 1) * n);
  double* result = widened + parameter.count * n;
  const void* wide_rows[cpu::kMaxObjectives];
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, parameter.dtype, "combine", [&] {
    for (int i = 0; i < parameter.count; ++i) {
      widen<scalar_t>(rows[i], n, widened + i * n);
      wide_rows[i] = widened + i * n;
    }
    cpu::kernels().combine(cpu::Type::kDouble, wide_rows, weights, parameter.count, n, result);
    for (int64_t x = 0; x < n; ++x) static_cast<scalar_t*>(out)[x] = static_cast<scalar_t>(result[x]);
  });
}

void combine_segment(const Gradients& grads, const Parameter& parameter, const Weights& weights, int64_t begin,
                     int64_t length, const at::Tensor& result, Scratch& scratch) {
  const int count = parameter.count;
  const at::Tensor* const* tensors = &grads.tensors[parameter.first];
  std::optional<cpu::CommonOrder> order;
  if (!parameter.aligned || result.strides() != tensors[0]->strides()) {
    order.emplace(result);
    for (int i = 0; i < count; ++i) order->add(*tensors[i]);
    order->add(result);
  }
  cpu::by_size(parameter.dtype, [&](auto element) {
    using E = decltype(element);
    E* data = static_cast<E*>(result.mutable_data_ptr());
    const int64_t most = order || weights.wide ? cpu::kWindow : length;
    cpu::each_window(grads, parameter, order ? &*order : nullptr, begin, length, most, scratch.copies,
                     [&](const void* const* rows, int64_t at, int64_t n) {
                       E* out = order ? scratch.window.of<E>(n) : data + at;
                       if (weights.wide) {
                         combine_widened(parameter, rows, weights.values, n, out, scratch.widened);
                       } else {
                         cpu::kernels().combine(cpu::type_of(parameter.dtype), rows, weights.values, count, n, out);
                       }
                       if (order) order->scatter(out, data, count, at, n);
                     });
  });
}

}  // namespace

std::vector<std::optional<at::Tensor>> combine_cpu(const Gradients& grads, const at::Tensor& weights,
                                                   std::vector<std::optional<at::Tensor>> out) {
  bool given = false;
  for (size_t p = 0; p < out.size(); ++p) {
    const Parameter& parameter = grads.parameters[p];
    given |= out[p].has_value();
    // autograd has to know of what is written over
    if (out[p] && !out[p]->is_inference()) out[p]->unsafeGetTensorImpl()->bump_version();
    if (parameter.count > 0 && !out[p]) out[p] = empty_for(parameter, *grads.tensors[parameter.first]);
    if (parameter.count == 0 && out[p]) out[p]->zero_();  // no objective reaches it: the empty sum
  }
  // A result may lie where the weights do.
  const at::Tensor plain = given ? weights.resolve_neg().clone() : weights.resolve_neg();
  const double* rows = plain.const_data_ptr<double>();
  const cpu::Slots slots(grads, {}, 64);
  at::parallel_for(0, slots.count(), 1, [&](int64_t first, int64_t last) {
    Scratch scratch;
    for (int64_t slot = first; slot < last; ++slot) {
      slots.each(slot, [&](size_t p, int64_t begin, int64_t length) {
        const Parameter& parameter = grads.parameters[p];
        const Weights w = weights_of(grads, parameter, rows + p * plain.stride(0), plain.stride(1));
        combine_segment(grads, parameter, w, begin, length, *out[p], scratch);
      });
    }
  });
  return out;
}

}  // namespace gmd
