#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../ops.h"
#include "rows.h"

namespace gmd {
namespace {

constexpr int64_t kGrain = 1 << 16;  // products worth another thread

// block.sums += block.left times the projector, after block.step. Threads share the columns: a thread meets the same
// part of the projector in both readings, and the order of each sum does not depend on their number. From below, a
// reading begins with the rows that the one before it has left in the caches.
void multiply(cpu::OwmBlock block, cpu::Type type, bool from_below) {
  const int64_t panel = cpu::kernels().lanes * (type == cpu::Type::kDouble ? 2 : 4);  // columns
  const int64_t panels = (block.d + panel - 1) / panel, blocks = (block.d + cpu::kOwmRows - 1) / cpu::kOwmRows;
  const int64_t grain = std::max<int64_t>(1, kGrain / (block.d * panel * block.count));
  at::parallel_for(0, panels, grain, [&](int64_t begin, int64_t end) {
    cpu::OwmBlock mine = block;
    mine.begin = begin * panel, mine.end = std::min(block.d, end * panel);
    for (int64_t n = 0; n < blocks; ++n) {
      mine.first = cpu::kOwmRows * (from_below ? blocks - 1 - n : n);
      mine.rows = std::min(cpu::kOwmRows, block.d - mine.first);
      cpu::kernels().owm(type, mine);
    }
  });
}

template <class Scalar>
bool all_finite(const Scalar* x, int64_t n) {
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) finite &= std::abs(x[i]) <= std::numeric_limits<Scalar>::max();
  return finite;
}

// k becomes k / sqrt(beta), whose entries' products are what the projector loses. It is below 1, whatever h is, as
// k . k <= h . k where no eigenvalue of P exceeds 1. False, where something is not finite: then there is no step.
template <class Scalar>
bool to_step(const Scalar* h, Scalar* k, int64_t d, double alpha) {
  double along = 0;  // h . k
  for (int64_t i = 0; i < d; ++i) along += static_cast<double>(h[i]) * static_cast<double>(k[i]);
  if (!std::isfinite(along)) return false;
  // of a positive semi-definite P it is 0 where k is; below that there are rounding errors alone
  const double factor = along > 0 ? 1 / std::sqrt(alpha + along) : 0;
  for (int64_t i = 0; i < d; ++i) k[i] = static_cast<Scalar>(static_cast<double>(k[i]) * factor);
  return true;
}

}  // namespace

void owm_update_cpu(const at::Tensor& projector, const at::Tensor& weight_grad, const at::Tensor& mean_input,
                    double alpha) {
  const c10::NoGradGuard no_grad;
  const int64_t d = projector.size(0), count = weight_grad.size(0);
  const at::Tensor h = mean_input.resolve_neg().contiguous();
  const at::Tensor left = weight_grad.to(projector.scalar_type()).resolve_neg().contiguous();
  const at::Tensor k = at::zeros({d}, projector.options()), result = at::zeros({count, d}, projector.options());
  bool stepped = true;
  AT_DISPATCH_FLOATING_TYPES(projector.scalar_type(), "owm_update_", [&] {
    const cpu::Type type = cpu::type_of(projector.scalar_type());
    scalar_t *matrix = projector.mutable_data_ptr<scalar_t>(), *step = k.mutable_data_ptr<scalar_t>();
    const scalar_t *input = h.const_data_ptr<scalar_t>(), *rows = left.const_data_ptr<scalar_t>();
    multiply({d, 0, 0, 0, 0, matrix, nullptr, input, 1, step}, type, false);  // P is symmetric: P h is h P
    stepped = all_finite(rows, count * d) && to_step(input, step, d, alpha);
    if (!stepped) return;
    multiply({d, 0, 0, 0, 0, matrix, step, rows, count, result.mutable_data_ptr<scalar_t>()}, type, true);
  });
  if (stepped) {
    // by itself copy_ flips the sign of a lazily negated tensor of a smaller type
    weight_grad.copy_(result.to(weight_grad.scalar_type()));
    if (!projector.is_inference()) projector.unsafeGetTensorImpl()->bump_version();  // autograd has to know
  } else {
    weight_grad.fill_(std::numeric_limits<double>::quiet_NaN());
  }
}

}  // namespace gmd
