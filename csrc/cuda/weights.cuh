// PCGrad of one Gramian, by the threads of one block.
#pragma once

#include "device.cuh"
#include "philox.cuh"

namespace gmd::cuda {

// The shared memory that it takes, weights_shared_bytes of it: numbers of matrices padded to kSide x kSide. What the
// lanes of a warp read at once lies in different banks.
template <int kSide>
struct WeightsMemory {
  static constexpr int kStride = kSide + 1;
  double* gram;          // [kSide, kSide]
  double* coefficients;  // [kSide, kStride]: column i = those of projected gradient i
  uint64_t* keys;        // [T, T], in the same place, before
  uint8_t* order;        // [T, T - 1]

  __device__ explicit WeightsMemory(double* memory)
      : gram(memory),
        coefficients(gram + kSide * kSide),
        keys(reinterpret_cast<uint64_t*>(coefficients)),
        order(reinterpret_cast<uint8_t*>(coefficients + kSide * kStride)) {}
};

// A Gramian on its way to shared memory.
template <int kSide>
struct PaddedGram {
  double numbers[kSide * kSide / kThreads];

  __device__ PaddedGram(const double* gram, int t) {
#pragma unroll
    for (int n = 0; n < kSide * kSide / kThreads; ++n) {
      const int i = (threadIdx.x + n * kThreads) / kSide, j = threadIdx.x % kSide;
      numbers[n] = i < t && j < t ? gram[i * t + j] : 0;
    }
  }
  __device__ void store(double* to) const {
#pragma unroll
    for (int n = 0; n < kSide * kSide / kThreads; ++n) to[threadIdx.x + n * kThreads] = numbers[n];
  }
};

// Row i = the others in the order of random keys.
template <int kSide>
__device__ inline void draw_order(const WeightsMemory<kSide>& memory, const Philox& state, int64_t gramian, int t) {
#pragma unroll 1
  for (int pair = threadIdx.x; pair < t * t; pair += kThreads) {
    memory.keys[pair] = random_bits(state, static_cast<uint64_t>(gramian) * t * t + pair);
  }
  __syncthreads();
#pragma unroll 1
  for (int pair = threadIdx.x; pair < t * t; pair += kThreads) {
    const int i = pair / t, j = pair % t;
    const uint64_t* keys = memory.keys + i * t;
    int rank = 0;
    for (int other = 0; other < t; ++other) {
      rank += other != i && (keys[other] < keys[j] || (keys[other] == keys[j] && other < j));
    }
    if (i != j) memory.order[i * (t - 1) + rank] = static_cast<uint8_t>(j);
  }
}

// An order that names an objective there is not means nothing: it stays in bounds, that is all.
template <int kSide>
__device__ inline void read_order(const WeightsMemory<kSide>& memory, const int64_t* given, int t) {
#pragma unroll 1
  for (int i = threadIdx.x; i < t * (t - 1); i += kThreads) {
    memory.order[i] = static_cast<uint8_t>(given[i] < 0 || given[i] >= t ? t : given[i]);
  }
}

// Projected gradient i: a = e_i, and where it conflicts with original gradient j, as much of that is taken off. Zeros
// behind T change no sum.
template <int kSide>
__device__ inline void project_row(const WeightsMemory<kSide>& memory, int i, int t) {
  constexpr int kStride = WeightsMemory<kSide>::kStride;
  double* a = memory.coefficients + i;
  const uint8_t* order = memory.order + i * (t - 1);
#pragma unroll
  for (int k = 0; k < kSide; ++k) a[k * kStride] = k == i;
  int next = order[0];
#pragma unroll 1
  for (int step = 1; step < t; ++step) {
    const int j = next;
    next = order[min(step, t - 2)];  // read before it is needed
    if (j >= t) continue;
    const double* column = memory.gram + j;
    const double square = column[j * kSide];
    double even = 0, odd = 0;  // two sums, that do not wait for each other
#pragma unroll
    for (int k = 0; k < kSide; k += 2) {
      even += a[k * kStride] * column[k * kSide];
      odd += a[(k + 1) * kStride] * column[(k + 1) * kSide];
    }
    const double product = even + odd;
    if (product < 0 && square > 0) a[j * kStride] -= product / square;
  }
}

// Where the results of one Gramian go; null: not wanted.
struct WeightsResult {
  int64_t* drawn;       // [T, T - 1]
  double* projections;  // [T, T]
  double* weights;      // [2, T]
};

template <int kSide>
__device__ inline void write_weights(const WeightsMemory<kSide>& memory, int t, bool mean,
                                     const WeightsResult& result) {
  const int k = threadIdx.x;
  if (k >= t) return;
  const double* a = memory.coefficients + k * WeightsMemory<kSide>::kStride;
  double total = 0;
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    if (i < t) total += a[i];
  }
  if (result.weights != nullptr) {
    result.weights[k] = mean ? total / t : total;
    result.weights[t + k] = total;
  }
  if (result.projections == nullptr) return;
#pragma unroll 1
  for (int i = 0; i < t; ++i) result.projections[i * t + k] = a[i];
}

// By kThreads threads. order.given and order.drawn are those of this Gramian.
template <int kSide>
__device__ inline void pcgrad(const double* gram, int64_t gramian, int t, const Order& order, bool mean,
                              const WeightsMemory<kSide>& memory, const WeightsResult& result) {
  const PaddedGram<kSide> padded(gram, t);  // under way while the order is drawn
  if (order.given != nullptr) {
    read_order(memory, order.given, t);
  } else {
    draw_order(memory, order.philox, gramian, t);
  }
  padded.store(memory.gram);
  __syncthreads();
  if (result.drawn != nullptr) {
#pragma unroll 1
    for (int i = threadIdx.x; i < t * (t - 1); i += kThreads) result.drawn[i] = memory.order[i];
  }
  if (static_cast<int>(threadIdx.x) < t) project_row(memory, threadIdx.x, t);
  __syncthreads();
  write_weights(memory, t, mean, result);
}

}  // namespace gmd::cuda
