// The Python module gmd_kernels._C.
#include <torch/csrc/utils/pybind.h>

#include "group_norm_relu.h"
#include "ops.h"
#include "owm_arguments.h"
#include "read.h"
#include "spans.h"

namespace {

std::vector<int> reached(const gmd::Read& read) {
  std::vector<int> counts;
  for (const gmd::Parameter& parameter : read.grads.parameters) counts.push_back(parameter.count);
  return counts;
}

std::vector<at::ScalarType> dtypes(const gmd::Read& read) {
  std::vector<at::ScalarType> found;
  for (const gmd::Parameter& parameter : read.grads.parameters) {
    if (parameter.count > 0 && std::find(found.begin(), found.end(), parameter.dtype) == found.end()) {
      found.push_back(parameter.dtype);
    }
  }
  return found;
}

// Whether some are lazily negated: what is read then is copies of those.
bool copied(const gmd::Read& read) { return !read.copies.empty(); }

at::Device device(const gmd::Read& read) {
  return read.grads.tensors.empty() ? at::Device(at::kCPU) : read.grads.tensors[0]->device();
}

namespace py = pybind11;
using NoGil = py::call_guard<py::gil_scoped_release>;
using Out = std::vector<std::optional<at::Tensor>>;

// The ops of one backend, from a reading of the gradients.
template <auto kGram, auto kProject, auto kCombine, auto kSketch>
void bind_ops(py::module_& m, const std::string& backend) {
  m.def(("gram_" + backend).c_str(),
        [](const gmd::Read& read, const std::vector<int64_t>& groups, int64_t num_groups) {
          return kGram(read.grads, groups, num_groups);
        },
        NoGil());
  m.def(("pcgrad_weights_" + backend).c_str(), kProject, NoGil());
  m.def(("combine_" + backend).c_str(),
        [](const gmd::Read& read, const at::Tensor& weights, Out out) {
          return kCombine(read.grads, weights, std::move(out));
        },
        NoGil());
  m.def(("sketch_" + backend).c_str(),
        [](const gmd::Read& read, const at::Tensor& sketch, int64_t seed) { kSketch(read.grads, sketch, seed); },
        NoGil());
}

#ifdef GMD_WITH_CUDA
void bind_weightings(py::module_& m) {
  m.def("imtl_g_cuda", &gmd::imtl_g_cuda, NoGil());
  m.def("config_cuda", &gmd::config_cuda, NoGil());
  m.def("aligned_mtl_cuda", &gmd::aligned_mtl_cuda, NoGil());
  m.def("mgda_cuda", &gmd::mgda_cuda, NoGil());
  m.def("nash_mtl_cuda", &gmd::nash_mtl_cuda, NoGil());
  m.def("dualproj_cuda", &gmd::dualproj_cuda, NoGil());
  m.def("upgrad_cuda", &gmd::upgrad_cuda, NoGil());
  m.def("cagrad_cuda", &gmd::cagrad_cuda, NoGil());
  m.def("pcd_cuda", &gmd::pcd_cuda, NoGil());
  m.def("fairgrad_cuda", &gmd::fairgrad_cuda, NoGil());
  m.def("gradvac_cuda", &gmd::gradvac_cuda, NoGil());
}
#endif

std::tuple<Out, at::Tensor, at::Tensor> as_tuple(gmd::Merged merged) {
  return {std::move(merged.gradients), merged.grams, merged.weights};
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  py::class_<gmd::Read>(m, "Gradients")
      .def_property_readonly("copied", &copied)
      .def_property_readonly("device", &device)
      .def_property_readonly("dtypes", &dtypes)
      .def_property_readonly("reached", &reached);
  m.def("read", &gmd::read_gradients);
  m.def("spans", [](const gmd::Read& read) { return gmd::spans(read.grads); }, NoGil());

  bind_ops<&gmd::gram_cpu, &gmd::pcgrad_weights_cpu, &gmd::combine_cpu, &gmd::sketch_cpu>(m, "cpu");
  m.def(
      "surgery_cpu",
      [](const gmd::Read& read, const std::vector<int64_t>& groups, int64_t num_groups, const at::Tensor& order,
         bool mean,
         Out out) { return as_tuple(gmd::surgery_cpu(read.grads, groups, num_groups, order, mean, std::move(out))); },
      NoGil());
  m.def("group_norm_relu", &gmd::group_norm_relu);
  m.def("group_norm_relu_cpu", &gmd::group_norm_relu_cpu, NoGil());
  m.def("group_norm_relu_backward_cpu", &gmd::group_norm_relu_backward_cpu, NoGil());
  m.def("usual_owm", &gmd::usual_owm);
  m.def("owm_update_cpu", &gmd::owm_update_cpu, NoGil());
  m.def("cpu_isa", &gmd::cpu_isa);

#ifdef GMD_WITH_CUDA
  bind_ops<&gmd::gram_cuda, &gmd::pcgrad_weights_cuda, &gmd::combine_cuda, &gmd::sketch_cuda>(m, "cuda");
  m.def(
      "surgery_cuda",
      [](const gmd::Read& read, const std::vector<int64_t>& groups, int64_t num_groups,
         const std::optional<at::Tensor>& order, const std::optional<at::Generator>& generator, bool mean, Out out) {
        return as_tuple(gmd::surgery_cuda(read.grads, groups, num_groups, order, generator, mean, std::move(out)));
      },
      NoGil());
  m.def("group_norm_relu_cuda", &gmd::group_norm_relu_cuda, NoGil());
  m.def("group_norm_relu_backward_cuda", &gmd::group_norm_relu_backward_cuda, NoGil());
  bind_weightings(m);
  m.def("upload", &gmd::upload, NoGil());
  m.def("why_not_cuda", &gmd::why_not_cuda, NoGil());
#endif
}
