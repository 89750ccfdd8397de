#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include "../ops.h"
#include "../sketch_map.h"
#include "rows.h"

namespace gmd {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements worth another thread

// A parameter's gradient in row-major order.
struct Source {
  const char* data;
  int64_t numel;
  at::ScalarType dtype;
  uint64_t key;
};

struct Sketch {
  char* data;
  int64_t d;
  cpu::Type type;
  int64_t size;  // of a number, in bytes
};

void add_run(const Sketch& sketch, const Source& source, const Run& run) {
  if (run.begin >= run.end) return;
  cpu::kernels().sketch({sketch.type, cpu::type_of(source.dtype), sketch.data + run.begin * sketch.size,
                         source.data + run.first * static_cast<int64_t>(c10::elementSize(source.dtype)), run.first,
                         run.end - run.begin, source.key});
}

// Threads share the buckets: each bucket takes its elements in one order, whatever the number of threads.
void add(const Sketch& sketch, const std::vector<Source>& sources) {
  int64_t elements = 1;
  for (const Source& source : sources) elements += source.numel;
  const int64_t d = sketch.d, grain = std::clamp<int64_t>(d * kGrain / elements, 1, d);
  at::parallel_for(0, d, grain, [&](int64_t begin, int64_t end) {
    for (const Source& source : sources) {
      for (int64_t block = 0; block * d < source.numel; ++block) {
        for (const bool second : {false, true}) {
          add_run(sketch, source, run_of_block(source.key, source.numel, d, block, second).within(begin, end));
        }
      }
    }
  });
}

}  // namespace

void sketch_cpu(const Gradients& grads, const at::Tensor& sketch, int64_t seed) {
  const c10::NoGradGuard no_grad;
  const Sketch to{static_cast<char*>(sketch.mutable_data_ptr()), sketch.numel(), cpu::type_of(sketch.scalar_type()),
                  sketch.element_size()};
  std::vector<Source> sources;
  for (size_t p = 0; p < grads.parameters.size(); ++p) {
    const Parameter& parameter = grads.parameters[p];
    if (parameter.numel == 0) continue;
    const at::Tensor& gradient = *grads.tensors[parameter.first];
    Source source{static_cast<const char*>(gradient.const_data_ptr()), parameter.numel, parameter.dtype,
                  parameter_key(seed, p)};
    if (gradient.is_contiguous()) {
      sources.push_back(source);
      continue;
    }
    add(to, sources);  // those before it: one copy at a time
    sources.clear();
    const at::Tensor copy = gradient.contiguous();
    source.data = static_cast<const char*>(copy.const_data_ptr());
    add(to, {source});
  }
  add(to, sources);
  if (!sketch.is_inference()) sketch.unsafeGetTensorImpl()->bump_version();  // autograd has to know
}

}  // namespace gmd
