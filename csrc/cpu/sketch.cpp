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

// Blocks of gradients of one type, one after the other.
class Group {
 public:
  explicit Group(const Sketch& sketch) : sketch_(sketch) {}

  void append(const Source& source, int64_t block) {
    const Run first = run_of_block(source.key, source.numel, sketch_.d, block, false),
              second = run_of_block(source.key, source.numel, sketch_.d, block, true);
    blocks_[count_++] = {&source, {first, second}};
  }

  bool takes(const Source& source) const {
    return count_ == 0 || (count_ < cpu::kSketchRows && source.dtype == blocks_[0].source->dtype);
  }

  // Adds the blocks to buckets [begin, end), range by range within which all runs are either whole or absent.
  void flush(int64_t begin, int64_t end) {
    int64_t cuts[2 + 4 * cpu::kSketchRows] = {begin, end};
    int num_cuts = 2;
    for (int k = 0; k < count_; ++k) {
      for (const Run& run : blocks_[k].runs) {
        for (const int64_t cut : {run.begin, run.end}) {
          if (run.begin < run.end && begin < cut && cut < end) cuts[num_cuts++] = cut;
        }
      }
    }
    std::sort(cuts, cuts + num_cuts);
    for (int i = 0; i + 1 < num_cuts; ++i) {
      if (cuts[i] < cuts[i + 1]) add(cuts[i], cuts[i + 1]);
    }
    count_ = 0;
  }

 private:
  struct Block {
    const Source* source;
    Run runs[2];
  };

  void add(int64_t begin, int64_t end) const {
    cpu::SketchRow rows[cpu::kSketchRows];
    int count = 0;
    for (int k = 0; k < count_; ++k) {
      const Source& source = *blocks_[k].source;
      for (const Run& run : blocks_[k].runs) {
        if (run.begin > begin || end > run.end) continue;
        const int64_t first = run.first + begin - run.begin;
        rows[count++] = {source.data + first * static_cast<int64_t>(c10::elementSize(source.dtype)), first, source.key};
      }
    }
    if (count == 0) return;
    cpu::kernels().sketch(sketch_.type, cpu::type_of(blocks_[0].source->dtype), rows, count, end - begin,
                          sketch_.data + begin * sketch_.size);
  }

  const Sketch& sketch_;
  Block blocks_[cpu::kSketchRows];
  int count_ = 0;
};

// Threads share the buckets: each bucket takes its elements in one order, whatever the number of threads.
void add(const Sketch& sketch, const std::vector<Source>& sources) {
  int64_t elements = 1;
  for (const Source& source : sources) elements += source.numel;
  const int64_t d = sketch.d, grain = std::clamp<int64_t>(d * kGrain / elements, 1, d);
  at::parallel_for(0, d, grain, [&](int64_t begin, int64_t end) {
    Group group(sketch);
    for (const Source& source : sources) {
      for (int64_t block = 0; block * d < source.numel; ++block) {
        if (!group.takes(source)) group.flush(begin, end);
        group.append(source, block);
      }
    }
    group.flush(begin, end);
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
