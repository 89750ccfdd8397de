// The Python module gmd_kernels._C.
#include <torch/extension.h>

#include "ops.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using NoGil = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def("gram_cpu", &gmd::gram_cpu, NoGil());
  m.def("pcgrad_weights_cpu", &gmd::pcgrad_weights_cpu, NoGil());
  m.def("combine_cpu", &gmd::combine_cpu, NoGil());
  m.def("cpu_isa", &gmd::cpu_isa);
}
