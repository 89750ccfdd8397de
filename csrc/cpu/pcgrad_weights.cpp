#include "../ops.h"

namespace gmd {

at::Tensor pcgrad_weights_cpu(const at::Tensor& gram, const at::Tensor& order) {
  const int64_t n = gram.size(0);
  const at::Tensor gram_c = gram.contiguous(), order_c = order.contiguous();
  const double* g = gram_c.const_data_ptr<double>();
  const int64_t* met = order_c.const_data_ptr<int64_t>();
  at::Tensor weights = at::eye(n, gram.options());
  double* a = weights.mutable_data_ptr<double>();
  for (int64_t i = 0; i < n; ++i, a += n, met += n - 1) {
    for (int64_t step = 0; step < n - 1; ++step) {
      const int64_t j = met[step];
      double product = 0;  // <projected gradient i, original gradient j>
      for (int64_t k = 0; k < n; ++k) product += a[k] * g[k * n + j];
      if (product < 0 && g[j * n + j] > 0) a[j] -= product / g[j * n + j];
    }
  }
  return weights;
}

}  // namespace gmd
