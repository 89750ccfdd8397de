#include "../launch.h"
#include "sums.cuh"

namespace gmd::cuda {
namespace {

// A thread for each entry of the tables: the sums of the samples that take its row, in their order.
template <class Scalar>
__device__ inline void write_tables(const NormTask& task, const NormRows& rows, const double* sums, Scalar* dweight,
                                    Scalar* dbias) {
  const int64_t channels = task.shape.channels, entry = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (entry >= rows.count * channels) return;
  const int64_t row = entry / channels, channel = entry % channels;
  const bool each_its_own = rows.of_sample == nullptr && rows.count > 1;
  const int64_t end = each_its_own ? row + 1 : task.shape.samples;
  double of_bias = 0, of_weight = 0;
#pragma unroll 4
  for (int64_t sample = each_its_own ? row : 0; sample < end; ++sample) {
    if (row_of(rows, sample) != row) continue;
    of_bias += global(sums)[2 * sample * channels + channel];
    of_weight += global(sums)[(2 * sample + 1) * channels + channel];
  }
  global(dweight)[entry] = static_cast<Scalar>(of_weight);
  global(dbias)[entry] = static_cast<Scalar>(of_bias);
}

// dx = rstd (w dz - mean(w dz) - xn mean(w dz xn)), xn the normalised x, means over the group.
template <class Access>
__device__ inline void block_gradient(const NormTask& task, const void* grad, const void* x, const NormAffine& given,
                                      const NormStatistics& statistics, const double* means, void* dx) {
  using Scalar = typename Access::Scalar;
  const NormBlock block(task.cut, gridDim.x - 1 - blockIdx.x);
  const NormThread thread(task, block);
  const Affine<Scalar, Access::kCount> affine(task, given, statistics, block.sample, thread);
  Scalar offset[Access::kCount], slope[Access::kCount];
  each_channel<Access::kCount>(task.shape, thread, [&](int e, int, int group) {
    const double* of_group = means + 2 * block.sample * task.shape.groups + group;
    offset[e] = static_cast<Scalar>(global(of_group)[0]) * affine.rstd[e];
    slope[e] = static_cast<Scalar>(global(of_group)[task.shape.groups]) * affine.rstd[e] * affine.rstd[e];
  });
  each_access<Access>(thread, {x, grad}, [&](int64_t place, const auto& raw) {
    Scalar result[Access::kCount];
#pragma unroll
    for (int e = 0; e < Access::kCount; ++e) {
      const Scalar centred = Access::get(raw[0], e) - affine.mean[e];
      const Scalar dz = affine.stops(e, centred) ? 0 : Access::get(raw[1], e);
      result[e] = dz * affine.scale[e] - offset[e] - centred * slope[e];
    }
    Access::store(dx, place, result);
  });
}

__global__ void __launch_bounds__(kThreads, 2)
    norm_gradient_kernel(NormTask task, const void* grad, const void* x, NormAffine affine, NormStatistics statistics,
                         const double* sums, int table_blocks, void* dweight, void* dbias, void* dx) {
  if (static_cast<int>(blockIdx.x) < table_blocks) {
    if (task.shape.type == Type::kDouble) {
      write_tables(task, affine.rows, sums, static_cast<double*>(dweight), static_cast<double*>(dbias));
    } else {
      write_tables(task, affine.rows, sums, static_cast<float*>(dweight), static_cast<float*>(dbias));
    }
    return;
  }
  const double* means = sums + 2 * task.shape.samples * task.shape.channels;
  with_access(task,
              [&](auto access) { block_gradient<decltype(access)>(task, grad, x, affine, statistics, means, dx); });
}

}  // namespace

cudaError_t launch_norm_gradient(const NormTask& task, const void* grad, const void* x, const NormAffine& affine,
                                 const NormStatistics& statistics, const NormWorkspace& workspace, void* dweight,
                                 void* dbias, void* dx, cudaStream_t stream) {
  const int64_t of_elements = dx == nullptr ? 0 : task.cut.blocks(task.shape.samples);
  const auto of_tables = static_cast<int>(rounded_up(affine.rows.count * task.shape.channels, kThreads));
  const LaunchShape shape{static_cast<int>(of_tables + of_elements), kThreads, 0, stream};
  const double* sums = workspace.memory + norm_partials(task);
  return launch(norm_gradient_kernel, shape, task, grad, x, affine, statistics, sums, of_tables, dweight, dbias, dx);
}

}  // namespace gmd::cuda
