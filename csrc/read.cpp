#include "read.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <torch/csrc/autograd/python_variable.h>

namespace gmd {

bool is_ordinary(const at::Tensor& g) {
  return g.layout() == at::kStrided && at::isFloatingType(g.scalar_type()) && !g.is_meta() && g.has_storage() &&
         !at::isTensorSubclassLike(g) && !g._is_zerotensor() && !g.is_nested();
}

namespace {

bool is_list(PyObject* object) { return PyList_Check(object) || PyTuple_Check(object); }

// False if the gradient of objective k cannot join those of the same parameter that came before it.
bool add(Read& read, Parameter& parameter, int k, PyObject* object) {
  if (!THPVariable_Check(object)) return false;
  const at::Tensor* g = &THPVariable_Unpack(object);
  Gradients& grads = read.grads;
  if (!is_ordinary(*g) || (!grads.tensors.empty() && g->device() != grads.tensors[0]->device())) return false;
  if (C10_UNLIKELY(g->is_neg())) {  // autograd leaves lazily negated tensors behind complex numbers
    g = &read.copies.emplace_back(g->resolve_neg());
  } else {
    read.objects.push_back(pybind11::reinterpret_borrow<pybind11::object>(object));
  }
  if (parameter.count == 0) {
    parameter.dtype = g->scalar_type();
    parameter.numel = g->numel();
    parameter.aligned = g->is_non_overlapping_and_dense();
  } else {
    const at::Tensor& first = *grads.tensors[parameter.first];
    if (g->scalar_type() != parameter.dtype || g->sizes() != first.sizes()) return false;
    parameter.aligned &= g->strides() == first.strides();
  }
  grads.tensors.push_back(g);
  grads.data.push_back(g->const_data_ptr());
  grads.objectives.push_back(k);
  ++parameter.count;
  return true;
}

}  // namespace

std::unique_ptr<Read> read_gradients(pybind11::handle list) {
  PyObject* rows = list.ptr();
  if (!is_list(rows)) return nullptr;
  const Py_ssize_t num_objectives = PySequence_Fast_GET_SIZE(rows);
  if (num_objectives < 1 || num_objectives > kMaxObjectives) return nullptr;
  PyObject** row = PySequence_Fast_ITEMS(rows);
  for (Py_ssize_t k = 0; k < num_objectives; ++k) {
    if (!is_list(row[k]) || PySequence_Fast_GET_SIZE(row[k]) != PySequence_Fast_GET_SIZE(row[0])) return nullptr;
  }
  const Py_ssize_t num_parameters = PySequence_Fast_GET_SIZE(row[0]), most = num_objectives * num_parameters;
  auto read = std::make_unique<Read>();
  Gradients& grads = read->grads;
  grads.num_objectives = num_objectives;
  grads.parameters.reserve(num_parameters);
  grads.tensors.reserve(most);
  grads.data.reserve(most);
  grads.objectives.reserve(most);
  read->objects.reserve(most);
  for (Py_ssize_t p = 0; p < num_parameters; ++p) {
    Parameter parameter{static_cast<int64_t>(grads.tensors.size()), 0};
    for (Py_ssize_t k = 0; k < num_objectives; ++k) {
      PyObject* g = PySequence_Fast_ITEMS(row[k])[p];
      if (g != Py_None && !add(*read, parameter, static_cast<int>(k), g)) return nullptr;
    }
    grads.parameters.push_back(parameter);
  }
  return read;
}

}  // namespace gmd
