// The Python module gmd_kernels._C.
#include <torch/csrc/utils/pybind.h>

#include "ops.h"
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

// [P] bool: whether every objective reaches the parameter.
at::Tensor shared(const gmd::Read& read) {
  at::Tensor mask = at::empty({static_cast<int64_t>(read.grads.parameters.size())}, at::kBool);
  bool* to = mask.mutable_data_ptr<bool>();
  for (const gmd::Parameter& parameter : read.grads.parameters) *to++ = parameter.count == read.grads.num_objectives;
  return mask;
}

// Whether some are lazily negated: what is read then is copies of those.
bool copied(const gmd::Read& read) { return !read.copies.empty(); }

at::Device device(const gmd::Read& read) {
  return read.grads.tensors.empty() ? at::Device(at::kCPU) : read.grads.tensors[0]->device();
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace py = pybind11;
  using NoGil = py::call_guard<py::gil_scoped_release>;
  py::class_<gmd::Read>(m, "Gradients")
      .def_property_readonly("copied", &copied)
      .def_property_readonly("device", &device)
      .def_property_readonly("dtypes", &dtypes)
      .def_property_readonly("reached", &reached)
      .def_property_readonly("shared", &shared);
  m.def("read", &gmd::read_gradients);
  m.def("spans", [](const gmd::Read& read) { return gmd::spans(read.grads); }, NoGil());
  m.def(
      "gram_cpu",
      [](const gmd::Read& read, const std::vector<int64_t>& groups, int64_t num_groups) {
        return gmd::gram_cpu(read.grads, groups, num_groups);
      },
      NoGil());
  m.def("pcgrad_weights_cpu", &gmd::pcgrad_weights_cpu, NoGil());
  m.def(
      "combine_cpu",
      [](const gmd::Read& read, const at::Tensor& weights, std::vector<std::optional<at::Tensor>> out) {
        return gmd::combine_cpu(read.grads, weights, std::move(out));
      },
      NoGil());
  m.def(
      "surgery_cpu",
      [](const gmd::Read& read, const std::vector<int64_t>& groups, int64_t num_groups, const at::Tensor& order,
         bool mean, std::vector<std::optional<at::Tensor>> out) {
        auto merged = gmd::surgery_cpu(read.grads, groups, num_groups, order, mean, std::move(out));
        return std::make_tuple(std::move(merged.gradients), merged.grams, merged.weights);
      },
      NoGil());
  m.def("cpu_isa", &gmd::cpu_isa);
}
