#include "../launch.h"
#include "sums.cuh"

namespace gmd::cuda {
namespace {

// Sums of dz, the gradient where the ReLU let its argument z pass, and of dz times x around its mean.
template <class Scalar, int N>
struct Products {
  Scalar total[N] = {}, product[N] = {};

  __device__ void put(Scalar* shared) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      shared[2 * e * kThreads] = total[e];
      shared[(2 * e + 1) * kThreads] = product[e];
    }
  }

  __device__ void merge(const Scalar* shared) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      total[e] += shared[2 * e * kThreads];
      product[e] += shared[(2 * e + 1) * kThreads];
    }
  }
};

template <class Access, class Affine>
__device__ inline void read_products(const void* grad, const void* x, const NormThread& thread, const Affine& affine,
                                     Products<typename Access::Scalar, Access::kCount>& products) {
  using Scalar = typename Access::Scalar;
  each_access<Access>(thread, {x, grad}, [&](int64_t, const auto& raw) {
#pragma unroll
    for (int e = 0; e < Access::kCount; ++e) {
      const Scalar centred = Access::get(raw[0], e) - affine.mean[e];
      const Scalar dz = affine.stops(e, centred) ? 0 : Access::get(raw[1], e);
      products.total[e] += dz;
      products.product[e] += dz * centred;
    }
  });
}

// The sums of each channel, and the means over each group of these times the weight.
template <class Scalar>
__device__ inline void finish_products(const NormTask& task, const NormBlock& block, const Domain& domain,
                                       const NormAffine& affine, const NormWorkspace& workspace) {
  const int64_t channels = task.shape.channels, groups = task.shape.groups, sample = block.sample;
  double* all = sums_of(task, workspace);
  double *sums = all + 2 * sample * channels, *means = all + 2 * task.shape.samples * channels + 2 * sample * groups;
  add_slots<Scalar>(task, domain, sample, workspace.memory, sums,
                    [](int) { return [](Pair<Scalar> slot, int) { return Pair<double>{slot.first, slot.second}; }; });
  const Scalar* weight = static_cast<const Scalar*>(affine.weight) + row_of(affine.rows, sample) * channels;
  const double number = static_cast<double>(task.shape.voxels) * task.shape.group();
  add_channels(
      task, domain, sums, [&](int channel) -> double { return global(weight)[channel]; },
      [&](int group, Pair<double> total) {
        global(means)[group] = total.first / number;
        global(means)[groups + group] = total.second / number;
      });
}

template <class Access>
__device__ inline void block_products(const NormTask& task, const NormBlock& block, const void* grad, const void* x,
                                      const NormAffine& given, const NormStatistics& statistics, double* partials) {
  using Scalar = typename Access::Scalar;
  const NormThread thread(task, block);
  const Affine<Scalar, Access::kCount> affine(task, given, statistics, block.sample, thread);
  Products<Scalar, Access::kCount> products;
  read_products<Access>(grad, x, thread, affine, products);
  fold_rows(products, task.cut, thread.local_row, reinterpret_cast<Scalar*>(dynamic_shared()));
  if (thread.local_row > 0 || thread.row >= thread.end) return;
  const int64_t place = pair_place(task, block.sample, thread.channel, block.slot);
  Pair<Scalar> all{0, 0};
#pragma unroll
  for (int e = 0; e < Access::kCount; ++e) {
    const Pair<Scalar> one{products.total[e], products.product[e] * affine.rstd[e]};
    all = {all.first + one.first, all.second + one.second};
    if (thread.stride != 0) store_pair(partials, place + int64_t{e} * task.cut.slots, one);
  }
  if (thread.stride == 0) store_pair(partials, place, all);
}

__global__ void __launch_bounds__(kThreads, 2)
    norm_products_kernel(NormTask task, const void* grad, const void* x, NormAffine affine, NormStatistics statistics,
                         NormWorkspace workspace) {
  const NormBlock block(task.cut, blockIdx.x);
  with_access(task, [&](auto access) {
    block_products<decltype(access)>(task, block, grad, x, affine, statistics, workspace.memory);
  });
  const Domain domain(task, block);
  if (!is_last(task, domain, workspace)) return;
  if (task.shape.type == Type::kDouble) {
    finish_products<double>(task, block, domain, affine, workspace);
  } else {
    finish_products<float>(task, block, domain, affine, workspace);
  }
}

}  // namespace

cudaError_t launch_norm_products(const NormTask& task, const void* grad, const void* x, const NormAffine& affine,
                                 const NormStatistics& statistics, const NormWorkspace& workspace,
                                 cudaStream_t stream) {
  const LaunchShape shape{static_cast<int>(task.cut.blocks(task.shape.samples)), kThreads,
                          kNormShared * kThreads * int{sizeof(float)}, stream};
  return launch(norm_products_kernel, shape, task, grad, x, affine, statistics, workspace);
}

}  // namespace gmd::cuda
