// The launches. Each returns the error of its launch; none waits for the device or allocates.
// T objectives, P parameters, K groups. Every pointer is to the device's memory but where it says otherwise.
#pragma once

#include <cuda_runtime_api.h>

#include "plan.h"
#include "sketch_plan.h"

namespace gmd::cuda {

// Copies words from the host into the device's memory, as arguments of kernels: nothing has to be kept alive or waited
// for, and a captured graph holds the words themselves. About 32,000 bytes per kernel.
cudaError_t launch_upload(const uint64_t* words,  // [count], on the host
                          int64_t count, uint64_t* to, cudaStream_t stream);

// A plan on the device. The caller keeps `words` alive and unchanged while kernels that read it may run.
struct Table {
  const uint64_t* words;  // Plan::words, uploaded
  Layout layout;
};

// Memory between the blocks of a launch. Launches that may overlap need workspaces of their own.
struct Workspace {
  uint32_t*
      counters;      // [counters_size], zeros before the first launch ever; each launch leaves it ready for the next:
                     // first how many of launch_surgery there were, then of each group how many blocks are done with it
  double* partials;  // [partials_size], anything
};

// gram[k] = inner products over the parameters of group k; a group without any: zeros.
cudaError_t launch_gram(const Table& table, const Device& device, const Workspace& workspace,
                        double* gram,  // [K, T, T]
                        cudaStream_t stream);

// What at::PhiloxCudaState carries. A launch that draws takes kPhiloxIncrement from the offset.
constexpr uint64_t kPhiloxIncrement = 4;
struct Philox {
  uint64_t seed = 0, offset = 0;     // by value, or
  const int64_t* seed_at = nullptr;  // under graph capture: on the device, filled anew before every replay
  const int64_t* offset_at = nullptr;
  uint64_t offset_intragraph = 0;
};

// In which order projected gradient i meets the others. Entries beyond 0..T-1 are passed over.
struct Order {
  const int64_t* given = nullptr;  // [..., T, T-1]; null: drawn, with
  Philox philox;
  int64_t* drawn = nullptr;  // [..., T, T-1], where a drawn order is left; null: nowhere
};

// PCGrad of many Gramians.
cudaError_t launch_weights(const double* gram,  // [num_gramians, T, T]
                           int64_t num_gramians, int num_objectives, const Order& order,
                           double* projections,  // [num_gramians, T, T], row i = coefficients of projected gradient i;
                                                 // null: not wanted
                           double* weights,      // [num_gramians, 2, T], their sums for shared and for private
                                                 // parameters; null: not wanted
                           bool mean,            // shared parameters get the mean
                           cudaStream_t stream);

struct Weights {
  const double* data;
  // The row of a parameter: its index, or, of what launch_weights left, 2 * its group + whether it is private.
  enum class Rows { kPerParameter, kPerGroup } rows;
  int64_t row_stride, column_stride;  // in numbers; a row stride of 0: one row for all
};

// result = sum_k weights[.., k] g_k for every parameter that has a result, in float64 and rounded once to its type.
// A result may be one of the gradients of its own parameter, and lies apart from everything else that is read.
cudaError_t launch_combine(const Table& table, const Device& device, const Weights& weights, cudaStream_t stream);

// The sketch of each slice of a gradient. The table is of make_sketch_plan.
cudaError_t launch_sketch(const Table& table, const SketchTask& task,
                          void* partials,  // [slices, d] of the sketch's type, anything
                          cudaStream_t stream);

// sketch += the slices' sketches.
cudaError_t launch_sketch_sum(const SketchTask& task, const void* partials,
                              void* sketch,  // [d]
                              cudaStream_t stream);

// launch_gram, launch_weights and launch_combine in one cooperative launch, where fits_surgery(table.layout, device).
// The same bits as launch_gram, launch_weights and launch_combine with Rows::kPerGroup.
cudaError_t launch_surgery(const Table& table, const Device& device, const Workspace& workspace, const Order& order,
                           bool mean,        // shared parameters get the mean
                           double* gram,     // [T, T]
                           double* weights,  // [2, T], for shared and for private parameters
                           cudaStream_t stream);

}  // namespace gmd::cuda
