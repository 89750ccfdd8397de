// PCGrad of one Gramian, by the threads of one block.
#pragma once

#include "device.cuh"
#include "philox.cuh"

namespace gmd::cuda {

// The shared memory that it takes.
struct WeightsMemory {
  double* coefficients;  // [T, T]: column i = those of projected gradient i, so that neighbours are of different banks
  uint64_t* keys;        // [T, T], in the same place, before
  uint8_t* order;        // [T, T - 1]

  __device__ WeightsMemory(char* memory, int t)
      : coefficients(reinterpret_cast<double*>(memory)),
        keys(reinterpret_cast<uint64_t*>(memory)),
        order(reinterpret_cast<uint8_t*>(coefficients + t * t)) {}
};
GMD_BOTH constexpr int weights_shared_bytes(int t) { return t * t * 8 + t * (t - 1); }

// Row i = the others in the order of random keys.
__device__ inline void draw_order(const WeightsMemory& memory, const Philox& state, int64_t gramian, int t) {
  for (int pair = threadIdx.x; pair < t * t; pair += blockDim.x) {
    memory.keys[pair] = random_bits(state, static_cast<uint64_t>(gramian) * t * t + pair);
  }
  __syncthreads();
  for (int pair = threadIdx.x; pair < t * t; pair += blockDim.x) {
    const int i = pair / t, j = pair % t;
    const uint64_t* keys = memory.keys + i * t;
    int rank = 0;
    for (int other = 0; other < t; ++other) {
      rank += other != i && (keys[other] < keys[j] || (keys[other] == keys[j] && other < j));
    }
    if (i != j) memory.order[i * (t - 1) + rank] = static_cast<uint8_t>(j);
  }
  __syncthreads();
}

// An order that names an objective there is not means nothing: it stays in bounds, that is all.
__device__ inline void read_order(const WeightsMemory& memory, const int64_t* given, int t) {
  for (int i = threadIdx.x; i < t * (t - 1); i += blockDim.x) {
    memory.order[i] = static_cast<uint8_t>(given[i] < 0 || given[i] >= t ? t : given[i]);
  }
  __syncthreads();
}

// Projected gradient i: a = e_i, and where it conflicts with original gradient j, as much of that is taken off.
__device__ inline void project_row(const double* gram, const WeightsMemory& memory, int i, int t) {
  double* a = memory.coefficients + i;
  for (int k = 0; k < t; ++k) a[k * t] = k == i;
  for (int step = 0; step < t - 1; ++step) {
    const int j = memory.order[i * (t - 1) + step];
    if (j >= t) continue;
    double even = 0, odd = 0;  // two sums, that do not wait for each other
    for (int k = 0; k + 1 < t; k += 2) {
      even += a[k * t] * gram[k * t + j];
      odd += a[(k + 1) * t] * gram[(k + 1) * t + j];
    }
    if (t % 2 == 1) even += a[(t - 1) * t] * gram[(t - 1) * t + j];
    const double product = even + odd;
    const double square = gram[j * t + j];
    if (product < 0 && square > 0) a[j * t] -= product / square;
  }
}

// Where the results of one Gramian go; null: not wanted.
struct WeightsResult {
  int64_t* drawn;       // [T, T - 1]
  double* projections;  // [T, T]
  double* weights;      // [2, T]
};

__device__ inline void write_weights(const WeightsMemory& memory, int t, bool mean, const WeightsResult& result) {
  for (int k = threadIdx.x; k < t; k += blockDim.x) {
    double total = 0;
    for (int i = 0; i < t; ++i) {
      const double a = memory.coefficients[k * t + i];
      if (result.projections != nullptr) result.projections[i * t + k] = a;
      total += a;
    }
    if (result.weights == nullptr) continue;
    result.weights[k] = mean ? total / t : total;
    result.weights[t + k] = total;
  }
}

// order.given and order.drawn are those of this Gramian.
__device__ inline void pcgrad(const double* gram, int64_t gramian, int t, const Order& order, bool mean,
                              const WeightsMemory& memory, const WeightsResult& result) {
  if (order.given != nullptr) {
    read_order(memory, order.given, t);
  } else {
    draw_order(memory, order.philox, gramian, t);
  }
  if (result.drawn != nullptr) {
    for (int i = threadIdx.x; i < t * (t - 1); i += blockDim.x) result.drawn[i] = memory.order[i];
  }
  if (static_cast<int>(threadIdx.x) < t) project_row(gram, memory, threadIdx.x, t);
  __syncthreads();
  write_weights(memory, t, mean, result);
}

}  // namespace gmd::cuda
