// A quick look at the arguments of owm_update_: in Python it takes a third as long as the update.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace gmd {

// Whether a backend can take them as they are. If anything is wrong or unusual about them Python, which is slower,
// finds out what, and says so or mends it.
bool usual_owm(pybind11::handle projector, pybind11::handle weight_grad, pybind11::handle mean_input,
               pybind11::handle alpha);

}  // namespace gmd
