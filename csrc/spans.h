// Where gradients lie in memory, to find out whether a result would overwrite one that is still needed.
#pragma once

#include "gradients.h"

namespace gmd {

// -> [tensors, 3] int64: first address, address behind the last element, parameter; tensors without elements left out.
at::Tensor spans(const Gradients& grads);

}  // namespace gmd
