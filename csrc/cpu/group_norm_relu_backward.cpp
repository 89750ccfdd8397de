#include <ATen/Dispatch.h>

#include "../ops.h"
#include "norm_tables.h"

namespace gmd {
namespace {

// One backward pass; grad and dx lie in memory as x does.
template <class Scalar>
class Pass {
 public:
  Pass(const at::Tensor& x, const at::Tensor& grad, const cpu::Affine<Scalar>& affine, int64_t num_groups)
      : lines_(x, num_groups),
        affine_(affine),
        type_(cpu::type_of(x.scalar_type())),
        size_(x.element_size()),
        x_(static_cast<const char*>(x.const_data_ptr())),
        grad_(static_cast<const char*>(grad.const_data_ptr())),
        shares_(lines_.samples * num_groups) {}

  // dweight, dbias [R, C] += the sums over all samples; dx where it is given.
  void run(double* dweight, double* dbias, char* dx) {
    const int64_t chunk = lines_.samples_at_a_time();
    std::vector<double> partials(chunk * lines_.channels * lines_.slots * 2);
    for (int64_t first = 0; first < lines_.samples; first += chunk) {
      const int64_t count = std::min(chunk, lines_.samples - first);
      add_up(first, count, partials.data());
      for (int64_t i = 0; i < count; ++i) {
        merge(first + i, &partials[i * lines_.channels * lines_.slots * 2], dweight, dbias);
      }
      if (dx) write(first, count, dx);
    }
  }

 private:
  // partials: of each channel and slot the sums of the masked gradient, and of its product with x - mean.
  void add_up(int64_t first, int64_t count, double* partials /*[count, C, slots, 2]*/) const {
    lines_.each_run(first, count, [&](int64_t begin, int64_t end) {
      cpu::Tables<Scalar> tables(lines_, affine_, nullptr);
      cpu::Sums sums(lines_);
      for (int64_t index = begin; index < end; ++index) {
        const cpu::Run run = lines_.run(index);
        const void* in[] = {x_ + run.offset * size_, grad_ + run.offset * size_};
        const Scalar* constants = tables.of(run);
        sums.take([&](double* places) {
          cpu::kernels().norm.gradient_sums(type_, in, constants, lines_.period, run.length, places);
        });
        const int64_t channel = (run.sample - first) * lines_.channels + run.first_channel;
        for (int64_t c = 0; c < lines_.per_line; ++c) {
          double* to = partials + ((channel + c) * lines_.slots + run.slot) * 2;
          to[0] = sums.of_channel[2 * c], to[1] = sums.of_channel[2 * c + 1];
        }
      }
    });
  }

  // The sums of one sample: to its row of the affine's gradients, and to what its groups' statistics pass on.
  void merge(int64_t sample, const double* partials /*[C, slots, 2]*/, double* dweight, double* dbias) {
    const int64_t groups = lines_.groups, in_group = lines_.channels / groups;
    const double elements = static_cast<double>(in_group * lines_.voxels);
    for (int64_t group = 0; group < groups; ++group) {
      const double rstd = affine_.rstd[sample * groups + group];
      double plain = 0, centred = 0;  // sums over the group, weighted
      for (int64_t channel = group * in_group; channel < (group + 1) * in_group; ++channel) {
        double sum = 0, product = 0;
        for (int64_t slot = 0; slot < lines_.slots; ++slot) {
          sum += partials[(channel * lines_.slots + slot) * 2];
          product += partials[(channel * lines_.slots + slot) * 2 + 1];
        }
        const int64_t row = affine_.at(lines_, sample, channel);
        dbias[row] += sum;
        dweight[row] += rstd * product;
        plain += affine_.weight[row] * sum;
        centred += affine_.weight[row] * product;
      }
      shares_[sample * groups + group] = {static_cast<Scalar>(-rstd * rstd * rstd * centred / elements),
                                          static_cast<Scalar>(-rstd * plain / elements)};
    }
  }

  void write(int64_t first, int64_t count, char* dx) const {
    lines_.each_run(first, count, [&](int64_t begin, int64_t end) {
      cpu::Tables<Scalar> tables(lines_, affine_, shares_.data());
      for (int64_t index = begin; index < end; ++index) {
        const cpu::Run run = lines_.run(index);
        const int64_t offset = run.offset * size_;
        const void* in[] = {x_ + offset, grad_ + offset};
        cpu::kernels().norm.backward(type_, in, tables.of(run), lines_.period, run.length, dx + offset);
      }
    });
  }

  const cpu::Lines lines_;
  const cpu::Affine<Scalar>& affine_;
  cpu::Type type_;
  int64_t size_;  // bytes of an element
  const char *x_, *grad_;
  std::vector<cpu::Share<Scalar>> shares_;  // [n, G]
};

at::Tensor laid_out_as(const at::Tensor& x, const at::Tensor& grad) {
  if (grad.strides() == x.strides() && !grad.is_neg()) return grad;
  return at::empty_like(x).copy_(grad);
}

}  // namespace

std::tuple<std::optional<at::Tensor>, at::Tensor, at::Tensor> group_norm_relu_backward_cpu(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& rows, const at::Tensor& mean, const at::Tensor& rstd, bool needs_x) {
  const at::Tensor x = input.resolve_neg(), w = weight.resolve_neg().contiguous(), b = bias.resolve_neg().contiguous();
  const at::Tensor which = rows.contiguous(), means = mean.contiguous(), rstds = rstd.contiguous();
  const at::Tensor dy = laid_out_as(x, grad);
  const at::Tensor dweight = at::zeros(w.sizes(), at::kDouble), dbias = at::zeros(w.sizes(), at::kDouble);
  std::optional<at::Tensor> dx;
  if (needs_x) dx = at::empty_like(x);
  if (x.numel() > 0) {
    AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "group_norm_relu_backward", [&] {
      const cpu::Affine<scalar_t> affine = {w.const_data_ptr<scalar_t>(), b.const_data_ptr<scalar_t>(),
                                            which.const_data_ptr<int64_t>(), means.const_data_ptr<scalar_t>(),
                                            rstds.const_data_ptr<scalar_t>()};
      Pass<scalar_t>(x, dy, affine, mean.size(1))
          .run(dweight.mutable_data_ptr<double>(), dbias.mutable_data_ptr<double>(),
               dx ? static_cast<char*>(dx->mutable_data_ptr()) : nullptr);
    });
  }
  return {dx, dweight.to(w.scalar_type()), dbias.to(w.scalar_type())};
}

}  // namespace gmd
