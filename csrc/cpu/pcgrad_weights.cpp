#include "../ops.h"

namespace gmd {
namespace {

// weights [n, n] starts as the identity; gram [n, n], met [n, n-1].
void project(const double* g, const int64_t* met, int64_t n, double* a) {
  for (int64_t i = 0; i < n; ++i, a += n, met += n - 1) {
    for (int64_t step = 0; step < n - 1; ++step) {
      const int64_t j = met[step];
      double product = 0;  // <projected gradient i, original gradient j>
      for (int64_t k = 0; k < n; ++k) product += a[k] * g[k * n + j];
      if (product < 0 && g[j * n + j] > 0) a[j] -= product / g[j * n + j];
    }
  }
}

}  // namespace

at::Tensor pcgrad_weights_cpu(const at::Tensor& gram, const at::Tensor& order) {
  const int64_t n = gram.size(-1);
  const at::Tensor grams = gram.resolve_neg().contiguous(), orders = order.contiguous();
  at::Tensor weights = at::eye(n, gram.options()).expand_as(grams).contiguous();
  const double* g = grams.const_data_ptr<double>();
  const int64_t* met = orders.const_data_ptr<int64_t>();
  double* a = weights.mutable_data_ptr<double>();
  for (int64_t k = 0; k < grams.numel() / (n * n); ++k) project(g + k * n * n, met + k * n * (n - 1), n, a + k * n * n);
  return weights;
}

}  // namespace gmd
