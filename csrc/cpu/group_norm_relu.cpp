#include <ATen/Dispatch.h>

#include <cmath>

#include "../ops.h"
#include "norm_tables.h"

namespace gmd {
namespace {

// Of one group's elements in one run.
struct Part {
  double count, sum, squares;  // squares: of the distances from the part's own mean
};

// What one thread measures with: moments about a point close to the mean, so that nothing cancels. That point is the
// mean of the run's first elements; where it is far from the others, the variance is as large.
template <class Scalar>
class Measure {
 public:
  explicit Measure(const cpu::Lines& lines)
      : lines_(lines), sums_(lines), shift_(lines.period), group_(lines.per_line) {
    for (int64_t c = 0; c < lines.per_line; ++c) group_[c] = lines.per_line == 1 ? 0 : lines.group_of(c);
    centre_.resize(group_.back() + 1);
    totals_.resize(2 * centre_.size());
  }

  // parts: the first group's that the run passes through; the next group's is parts_of_group further.
  void run(cpu::Type type, const void* x, int64_t length, Part* parts) {
    const int64_t first = std::min(length, std::max<int64_t>(1, length / 16 / lines_.whole) * lines_.whole);
    const int64_t groups = centre_.size();
    std::fill(shift_.begin(), shift_.end(), Scalar{0});
    add_up(type, x, first);
    for (int64_t g = 0; g < groups; ++g) centre_[g] = static_cast<Scalar>(totals_[2 * g] / (first / groups));
    lines_.each_place([&](int64_t place, int64_t channel) { shift_[place] = centre_[group_[channel]]; });
    add_up(type, x, length);
    const double count = static_cast<double>(length / groups);
    for (int64_t g = 0; g < groups; ++g) {
      const double sum = totals_[2 * g];
      parts[g * lines_.parts_of_group()] = {count, count * centre_[g] + sum, totals_[2 * g + 1] - sum / count * sum};
    }
  }

 private:
  void add_up(cpu::Type type, const void* x, int64_t length) {
    sums_.take(
        [&](double* places) { cpu::kernels().norm.moments(type, &x, shift_.data(), lines_.period, length, places); });
    std::fill(totals_.begin(), totals_.end(), 0.0);
    for (int64_t c = 0; c < lines_.per_line; ++c) {
      totals_[2 * group_[c]] += sums_.of_channel[2 * c];
      totals_[2 * group_[c] + 1] += sums_.of_channel[2 * c + 1];
    }
  }

  const cpu::Lines& lines_;
  cpu::Sums sums_;
  std::vector<Scalar> shift_, centre_;  // [period], [groups of a line]
  std::vector<int64_t> group_;          // [per_line]
  std::vector<double> totals_;          // [groups of a line][2]
};

// All parts of one group, in their order.
template <class Scalar>
void merge(const Part* parts, int64_t num_parts, double eps, Scalar& mean, Scalar& rstd) {
  double count = 0, sum = 0, squares = 0;
  for (const Part* part = parts; part < parts + num_parts; ++part) count += part->count, sum += part->sum;
  for (const Part* part = parts; part < parts + num_parts; ++part) {
    const double off = part->sum / part->count - sum / count;
    squares += part->squares + part->count * off * off;
  }
  mean = static_cast<Scalar>(sum / count);
  rstd = static_cast<Scalar>(1 / std::sqrt((squares < 0 ? 0 : squares / count) + eps));
}

template <class Scalar>
void forward(const at::Tensor& x, const cpu::Affine<Scalar>& affine, int64_t num_groups, double eps, void* y,
             Scalar* mean, Scalar* rstd) {
  const cpu::Lines lines(x, num_groups);
  const cpu::Type type = cpu::type_of(x.scalar_type());
  const int64_t size = x.element_size(), of_group = lines.parts_of_group(), chunk = lines.samples_at_a_time();
  const auto at = [&](const cpu::Run& run) -> const void* {
    return static_cast<const char*>(x.const_data_ptr()) + run.offset * size;
  };
  std::vector<Part> parts(chunk * num_groups * of_group);
  for (int64_t first = 0; first < lines.samples; first += chunk) {
    const int64_t count = std::min(chunk, lines.samples - first);
    lines.each_run(first, count, [&](int64_t begin, int64_t end) {
      Measure<Scalar> measure(lines);
      for (int64_t index = begin; index < end; ++index) {
        const cpu::Run run = lines.run(index);
        const int64_t group = (run.sample - first) * num_groups + lines.group_of(run.first_channel);
        measure.run(type, at(run), run.length, &parts[group * of_group + lines.part(run)]);
      }
    });
    for (int64_t g = 0; g < count * num_groups; ++g) {
      merge(&parts[g * of_group], of_group, eps, mean[first * num_groups + g], rstd[first * num_groups + g]);
    }
    lines.each_run(first, count, [&](int64_t begin, int64_t end) {
      cpu::Tables<Scalar> tables(lines, affine, nullptr);
      for (int64_t index = begin; index < end; ++index) {
        const cpu::Run run = lines.run(index);
        const void* in[] = {at(run)};
        cpu::kernels().norm.forward(type, in, tables.of(run), lines.period, run.length,
                                    static_cast<char*>(y) + run.offset * size);
      }
    });
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_relu_cpu(const at::Tensor& input, const at::Tensor& weight,
                                                                   const at::Tensor& bias, const at::Tensor& rows,
                                                                   int64_t num_groups, double eps) {
  const at::Tensor x = input.resolve_neg(), w = weight.resolve_neg().contiguous(), b = bias.resolve_neg().contiguous();
  const at::Tensor which = rows.contiguous();
  const at::Tensor y = at::empty_like(x), mean = at::empty({x.size(0), num_groups}, w.options());
  const at::Tensor rstd = at::empty_like(mean);
  if (x.numel() == 0) return {y, mean.zero_(), rstd.zero_()};
  AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "group_norm_relu", [&] {
    scalar_t *means = mean.mutable_data_ptr<scalar_t>(), *rstds = rstd.mutable_data_ptr<scalar_t>();
    const cpu::Affine<scalar_t> affine = {w.const_data_ptr<scalar_t>(), b.const_data_ptr<scalar_t>(),
                                          which.const_data_ptr<int64_t>(), means, rstds};
    forward<scalar_t>(x, affine, num_groups, eps, y.mutable_data_ptr(), means, rstds);
  });
  return {y, mean, rstd};
}

}  // namespace gmd
