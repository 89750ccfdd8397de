#include "../launch.h"
#include "sums.cuh"

namespace gmd::cuda {
namespace {

// Of a thread's elements of some channels: means, and squares around them, by Welford's method. No sum grows beyond the
// values' spread.
template <class Scalar, int N>
struct Moments {
  Scalar mean[N] = {}, squares[N] = {}, count = 0;

  __device__ void add(int e, Scalar value, Scalar share /*1 / count*/) {
    const Scalar difference = value - mean[e];
    mean[e] += difference * share;
    squares[e] += difference * (value - mean[e]);
  }

  __device__ void put(Scalar* shared) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      shared[2 * e * kThreads] = mean[e];
      shared[(2 * e + 1) * kThreads] = squares[e];
    }
    shared[2 * N * kThreads] = count;
  }

  // Chan's formula.
  __device__ void merge(const Scalar* shared) {
    const Scalar others = shared[2 * N * kThreads];
    if (others == 0) return;
    const Scalar share = others / (count + others);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const Scalar difference = shared[2 * e * kThreads] - mean[e];
      mean[e] += difference * share;
      squares[e] += shared[(2 * e + 1) * kThreads] + difference * difference * (count * share);
    }
    count += others;
  }

  // Of all N, which have met as many elements each.
  __device__ Pair<Scalar> together() const {
    Pair<Scalar> all{0, 0};
#pragma unroll
    for (int e = 0; e < N; ++e) all.first += (mean[e] - mean[0]) / N;
    all.first += mean[0];
#pragma unroll
    for (int e = 0; e < N; ++e) all.second += squares[e] + count * (mean[e] - all.first) * (mean[e] - all.first);
    return all;
  }
};

template <class Access>
__device__ inline void read_moments(const void* x, const NormThread& thread,
                                    Moments<typename Access::Scalar, Access::kCount>& moments) {
  using Scalar = typename Access::Scalar;
  each_access<Access>(thread, {x}, [&](int64_t, const auto& raw) {
    moments.count += 1;
    const Scalar share = 1 / moments.count;
#pragma unroll
    for (int e = 0; e < Access::kCount; ++e) moments.add(e, Access::get(raw[0], e), share);
  });
}

// A group's statistics of the slots' means and squares around them, which are taken about the first slot's mean.
template <class Scalar>
__device__ inline void finish_statistics(const NormTask& task, const NormBlock& block, const Domain& domain,
                                         const NormWorkspace& workspace, double eps, Scalar* mean, Scalar* rstd) {
  const int size = task.shape.group();
  const int64_t sample = block.sample;
  double* sums = sums_of(task, workspace) + 2 * sample * task.shape.channels;
  const auto origin = [&](int channel) -> double {
    return load_pair<Scalar>(workspace.memory, pair_place(task, sample, channel / size * size, 0)).first;
  };
  const int each = task.shape.together ? 1 : task.cut.elements;  // elements of a channel in a row
  add_slots<Scalar>(task, domain, sample, workspace.memory, sums, [&](int channel) {
    return [&task, each, middle = origin(channel)](Pair<Scalar> slot, int which) {
      const double count = static_cast<double>(rows_of_slot(task.cut, which) * each), off = slot.first - middle;
      return Pair<double>{count * off, slot.second + count * off * off};
    };
  });
  const double number = static_cast<double>(task.shape.voxels) * size;
  add_channels(
      task, domain, sums, [](int) { return 1.0; },
      [&](int group, Pair<double> total) {
        const double off = total.first / number, variance = (total.second - total.first * off) / number;
        const int64_t place = sample * task.shape.groups + group;
        global(mean)[place] = static_cast<Scalar>(origin(group * size) + off);
        global(rstd)[place] = static_cast<Scalar>(1 / sqrt((variance < 0 ? 0 : variance) + eps));
      });
}

template <class Access>
__device__ inline void block_moments(const NormTask& task, const NormBlock& block, const void* x, double* partials) {
  using Scalar = typename Access::Scalar;
  const NormThread thread(task, block);
  Moments<Scalar, Access::kCount> moments;
  read_moments<Access>(x, thread, moments);
  fold_rows(moments, task.cut, thread.local_row, reinterpret_cast<Scalar*>(dynamic_shared()));
  if (thread.local_row > 0 || thread.row >= thread.end) return;
  const int64_t place = pair_place(task, block.sample, thread.channel, block.slot);
  if (thread.stride == 0) return store_pair(partials, place, moments.together());
#pragma unroll
  for (int e = 0; e < Access::kCount; ++e) {
    store_pair(partials, place + int64_t{e} * task.cut.slots, Pair<Scalar>{moments.mean[e], moments.squares[e]});
  }
}

__global__ void __launch_bounds__(kThreads, 3)
    norm_moments_kernel(NormTask task, const void* x, NormWorkspace workspace, double eps, void* mean, void* rstd) {
  const NormBlock block(task.cut, blockIdx.x);
  with_access(task, [&](auto access) { block_moments<decltype(access)>(task, block, x, workspace.memory); });
  const Domain domain(task, block);
  if (!is_last(task, domain, workspace)) return;
  if (task.shape.type == Type::kDouble) {
    finish_statistics(task, block, domain, workspace, eps, static_cast<double*>(mean), static_cast<double*>(rstd));
  } else {
    finish_statistics(task, block, domain, workspace, eps, static_cast<float*>(mean), static_cast<float*>(rstd));
  }
}

}  // namespace

cudaError_t launch_norm_moments(const NormTask& task, const void* x, const NormWorkspace& workspace, double eps,
                                void* mean, void* rstd, cudaStream_t stream) {
  const LaunchShape shape{static_cast<int>(task.cut.blocks(task.shape.samples)), kThreads,
                          kNormShared * kThreads * int{sizeof(float)}, stream};
  return launch(norm_moments_kernel, shape, task, x, workspace, eps, mean, rstd);
}

}  // namespace gmd::cuda
