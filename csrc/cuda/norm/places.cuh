// Where a thread's elements of a tensor are, and how they are read and written.
#pragma once

#include <type_traits>

#include "../elements.cuh"
#include "norm.h"

namespace gmd::cuda {

template <Type E>
using ScalarOf = std::conditional_t<E == Type::kDouble, double, float>;

// A block's part of the tensor.
struct NormBlock {
  int64_t sample;
  int slot, chunk;

  __device__ NormBlock(const NormCut& cut, uint32_t block) {
    const uint32_t chunks = cut.chunks, slots = cut.slots, line = block / chunks;
    chunk = static_cast<int>(block % chunks);
    slot = static_cast<int>(line % slots);
    sample = line / slots;
  }
};

// What a thread has of it: rows row, row + step, .. below end, of which those of `count` channels.
struct NormThread {
  int64_t row, end, step;
  int64_t base, pitch;  // element `base` + row * `pitch` is its first one of a row
  int channel, stride;  // of element e of an access: channel + e * stride
  int local_row;        // among the rows that the block has at a time; at least as many as there are: nothing to do

  __device__ NormThread(const NormTask& task, const NormBlock& block) {
    const NormCut& cut = task.cut;
    const NormShape& shape = task.shape;
    const int column = threadIdx.x % cut.columns;
    local_row = threadIdx.x / cut.columns;
    const int64_t first = block.slot * cut.span;
    channel = block.chunk * cut.width + column * cut.elements;
    stride = shape.together;
    step = cut.rows;
    row = first + local_row;
    const bool there = local_row < cut.rows && channel < shape.channels;
    end = there ? min(first + cut.span, cut.length) : 0;
    pitch = shape.together ? shape.channels : cut.elements;
    base = shape.together ? block.sample * shape.voxels * shape.channels + channel
                          : (block.sample * shape.channels + block.chunk) * shape.voxels;
    if (!shape.together) channel = block.chunk;
  }

  __device__ int64_t place(int64_t at) const { return base + at * pitch; }
};

// Rows of a slot.
__device__ inline int64_t rows_of_slot(const NormCut& cut, int slot) {
  return min(cut.span, cut.length - slot * cut.span);
}

// Elements that are read and written together: those of 16 bytes, or one.
template <Type E, bool kVectors>
struct Access {
  using Scalar = ScalarOf<E>;
  using Raw = std::conditional_t<kVectors, uint4, typename Elements<E>::Bits>;
  static constexpr int kCount = kVectors ? Elements<E>::kPerVector : 1;

  __device__ static Raw load(const void* from, int64_t element) {
    const auto* elements = static_cast<const typename Elements<E>::Bits*>(from) + element;
    if constexpr (kVectors) {
      return load_vector(elements);
    } else {
      return *global(elements);
    }
  }

  __device__ static Scalar get(const Raw& raw, int e) {
    if constexpr (kVectors) {
      return Elements<E>::get(raw, e);
    } else if constexpr (E == Type::kDouble) {
      return __longlong_as_double(raw);
    } else {
      return Elements<E>::get(uint4{raw, 0, 0, 0}, 0);
    }
  }

  // Rounded once to the nearest, ties to even.
  __device__ static void store(void* to, int64_t element, const Scalar (&values)[kCount]) {
    auto* elements = static_cast<typename Elements<E>::Bits*>(to) + element;
    uint4 v = {0, 0, 0, 0};
    if constexpr (E == Type::kBFloat16 && kVectors) {
#pragma unroll
      for (int w = 0; w < 4; ++w) set_word(v, w, narrow_to_bfloat16s(values[2 * w], values[2 * w + 1]));
    } else {
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        if constexpr (E == Type::kBFloat16) {
          v.x = narrow_to_bfloat16s(values[e], 0) & 0xffff;
        } else if constexpr (E == Type::kHalf) {
          set_short(v, e, narrow_to_half(values[e]));
        } else if constexpr (E == Type::kFloat) {
          set_word(v, e, __float_as_uint(values[e]));
        } else {
          Elements<E>::set(v, e, values[e]);
        }
      }
    }
    if constexpr (kVectors) {
      store_vector(elements, v);
    } else if constexpr (E == Type::kDouble) {
      *global(elements) = uint64_t{v.y} << 32 | v.x;
    } else {
      *global(elements) = static_cast<typename Elements<E>::Bits>(v.x);
    }
  }
};

// visit(an Access) of the task's type and width.
template <class Visit>
__device__ inline void with_access(const NormTask& task, Visit visit) {
  with_type(task.shape.type, [&](auto type) {
    constexpr Type kType = decltype(type)::value;
    if (task.cut.elements > 1) {
      visit(Access<kType, true>{});
    } else {
      visit(Access<kType, false>{});
    }
  });
}

constexpr int kAhead = 4;  // accesses to each tensor that a thread waits for at a time

// visit(place, raw) for each of the thread's accesses to some tensors of one shape, raw [kTensors].
template <class Access, int kTensors, class Visit>
__device__ inline void each_access(const NormThread& thread, const void* const (&from)[kTensors], Visit visit) {
  for (int64_t row = thread.row; row < thread.end; row += kAhead * thread.step) {
    typename Access::Raw raw[kAhead][kTensors];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (row + u * thread.step >= thread.end) continue;
#pragma unroll
      for (int t = 0; t < kTensors; ++t) raw[u][t] = Access::load(from[t], thread.place(row + u * thread.step));
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (row + u * thread.step < thread.end) visit(thread.place(row + u * thread.step), raw[u]);
    }
  }
}

// The row of the affine that a sample takes.
__device__ inline int64_t row_of(const NormRows& rows, int64_t sample) {
  if (rows.of_sample != nullptr) return global(rows.of_sample)[sample];
  return rows.count == 1 ? 0 : sample;
}

// visit(e, channel, group) for each element of a thread's accesses; of an idle thread, channels that there are.
template <int N, class Visit>
__device__ inline void each_channel(const NormShape& shape, const NormThread& thread, Visit visit) {
  const int size = shape.group();
  int channel = min(thread.channel, shape.channels - 1), group = channel / size, left = (group + 1) * size - channel;
#pragma unroll
  for (int e = 0; e < N; ++e) {
    visit(e, channel, group);
    if (thread.stride == 0 || channel == shape.channels - 1) continue;
    ++channel;
    if (--left > 0) continue;
    ++group;
    left = size;
  }
}

// z = (x - mean) * scale + bias, for each element of a thread's accesses.
template <class Scalar, int N>
struct Affine {
  Scalar mean[N], scale[N], bias[N], rstd[N];

  __device__ Affine(const NormTask& task, const NormAffine& affine, const NormStatistics& statistics, int64_t sample,
                    const NormThread& thread) {
    const int64_t first = row_of(affine.rows, sample) * task.shape.channels;
    each_channel<N>(task.shape, thread, [&](int e, int channel, int group) {
      const int64_t of_group = sample * task.shape.groups + group;
      mean[e] = global(static_cast<const Scalar*>(statistics.mean))[of_group];
      rstd[e] = global(static_cast<const Scalar*>(statistics.rstd))[of_group];
      scale[e] = rstd[e] * global(static_cast<const Scalar*>(affine.weight))[first + channel];
      bias[e] = global(static_cast<const Scalar*>(affine.bias))[first + channel];
    });
  }

  // Whether the ReLU stops an x that lies so far from the mean. NaN passes, as torch's ReLU has it.
  __device__ bool stops(int e, Scalar centred) const { return centred * scale[e] + bias[e] <= 0; }
};

}  // namespace gmd::cuda
