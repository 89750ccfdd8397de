// The norm's launches, as functions that Python can call (tests/helpers/emulated_norm.py).
#include <algorithm>
#include <iterator>

#include "norm/norm.h"

using namespace gmd::cuda;

namespace {

struct CNorm {
  int64_t samples, voxels, channels, groups, type, together, aligned;

  NormTask on(int multiprocessors) const {
    return norm_task({samples, voxels, static_cast<int32_t>(channels), static_cast<int32_t>(groups),
                      static_cast<Type>(type), together != 0, aligned != 0},
                     {multiprocessors, 0});
  }
};

}  // namespace

extern "C" {

// elements, columns, rows, width, chunks, slots, domain, domains, length, span; blocks, counters, numbers of memory
void norm_numbers(const CNorm* shape, int multiprocessors, int64_t* to) {
  const NormTask task = shape->on(multiprocessors);
  const NormCut& c = task.cut;
  const int64_t numbers[] = {c.elements,
                             c.columns,
                             c.rows,
                             c.width,
                             c.chunks,
                             c.slots,
                             c.domain,
                             c.domains,
                             c.length,
                             c.span,
                             c.blocks(task.shape.samples),
                             norm_counters(task),
                             norm_memory(task)};
  std::copy(std::begin(numbers), std::end(numbers), to);
}

int run_norm(const CNorm* shape, int multiprocessors, const void* x, const NormAffine* affine, double eps,
             uint32_t* counters, double* memory, void* mean, void* rstd, void* y) {
  const NormTask task = shape->on(multiprocessors);
  const cudaError_t error = launch_norm_moments(task, x, {counters, memory}, eps, mean, rstd, nullptr);
  return error ? error : launch_norm_apply(task, x, *affine, {mean, rstd}, y, nullptr);
}

int run_norm_backward(const CNorm* shape, int multiprocessors, const void* grad, const void* x,
                      const NormAffine* affine, const NormStatistics* statistics, uint32_t* counters, double* memory,
                      void* dweight, void* dbias, void* dx) {
  const NormTask task = shape->on(multiprocessors);
  const NormWorkspace workspace{counters, memory};
  const cudaError_t error = launch_norm_products(task, grad, x, *affine, *statistics, workspace, nullptr);
  return error ? error
               : launch_norm_gradient(task, grad, x, *affine, *statistics, workspace, dweight, dbias, dx, nullptr);
}

}  // extern "C"
