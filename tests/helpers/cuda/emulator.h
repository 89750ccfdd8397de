// Just enough of CUDA to run the kernels of csrc/cuda on a CPU, thread by thread.
//
// Each thread of a launch is a fiber, which runs until it has to wait for others: at a barrier, an exchange between the
// lanes of a warp, or in a loop that looks at what another block writes. Which fiber goes on is drawn from a seed, in
// one of three ways by the seed's remainder: where a barrier is missing, results differ from seed to seed. Blocks of a
// launch that is not cooperative may also run one after the other. A barrier that not all threads reach, lanes that
// meet at different operations, and endless waiting are errors, not hangs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1) : x(x) {}
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
using cudaStream_t = void*;
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);

namespace emulator {

struct Place {
  dim3 thread, block, block_size, grid;
};
extern Place place;  // of the fiber that runs

enum class Operation { kSyncThreads, kCountThreads, kSyncWarp, kShuffle, kAny, kAll, kMatrices };

// Waits until all threads of the warp, or of the block, have come to the operation; returns the thread's result.
uint64_t meet(Operation operation, uint64_t value, int detail = 0);

// What a lane brings to a product of matrices, and gets: see multiply_matrices in csrc/cuda/device.cuh.
struct LaneOfMatrices {
  uint32_t a[4], b[2];
  float d[4];
};
void multiply_matrices(LaneOfMatrices* const (&lanes)[32], bool half);  // tensor_core.cpp

void yield();  // lets others run

// The running thread reads or writes a gradient or a result; kept while accesses are recorded.
void note_access(const void* at);

char* shared_memory();

cudaError_t run(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread);

template <class T>
T bits_to(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
uint64_t to_bits(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

}  // namespace emulator

inline const dim3& threadIdx = emulator::place.thread;
inline const dim3& blockIdx = emulator::place.block;
inline const dim3& blockDim = emulator::place.block_size;
inline const dim3& gridDim = emulator::place.grid;

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  return emulator::run(reinterpret_cast<const void*>(kernel), *config, [&] { std::apply(kernel, parameters); });
}

using std::max;
using std::min;

inline void __syncthreads() { emulator::meet(emulator::Operation::kSyncThreads, 0); }
inline int __syncthreads_or(int value) { return emulator::meet(emulator::Operation::kSyncThreads, value != 0) != 0; }
inline int __syncthreads_count(int value) {
  return static_cast<int>(emulator::meet(emulator::Operation::kCountThreads, value != 0));
}
inline void __syncwarp() { emulator::meet(emulator::Operation::kSyncWarp, 0); }
inline int __any_sync(unsigned, int value) { return emulator::meet(emulator::Operation::kAny, value != 0) != 0; }
inline int __all_sync(unsigned, int value) { return emulator::meet(emulator::Operation::kAll, value != 0) != 0; }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulator::bits_to<T>(emulator::meet(emulator::Operation::kShuffle, emulator::to_bits(value), mask));
}

// One fiber runs at a time: what it does between two waits is atomic, and seen by all.
inline void __threadfence() {}
inline void __nanosleep(unsigned) {}
inline uint32_t atomicAdd(uint32_t* p, uint32_t value) {
  const uint32_t before = *p;
  *p += value;
  return before;
}

inline float __uint_as_float(uint32_t bits) { return emulator::bits_to<float>(bits); }
inline uint32_t __float_as_uint(float value) { return static_cast<uint32_t>(emulator::to_bits(value)); }
inline double __longlong_as_double(uint64_t bits) { return emulator::bits_to<double>(bits); }
inline double __hiloint2double(uint32_t high, uint32_t low) {
  return emulator::bits_to<double>(uint64_t{high} << 32 | low);
}
inline uint32_t __double2hiint(double value) { return static_cast<uint32_t>(emulator::to_bits(value) >> 32); }
inline uint32_t __double2loint(double value) { return static_cast<uint32_t>(emulator::to_bits(value)); }

// What csrc/cuda/device.cuh has for nvcc.
namespace gmd::cuda {

template <class T>
T* global(T* p) {
  emulator::note_access(p);
  return p;
}
inline int forget(int value) { return value; }
inline char* dynamic_shared() { return emulator::shared_memory(); }
float widen_half(uint16_t bits);
uint16_t narrow_to_half(float value);
uint32_t narrow_to_bfloat16s(float low, float high);
float truncate(double value);
inline double load_fresh(const double* p) { return *p; }
template <auto E>
void multiply_matrices(float* d, const uint4& a, const uint2& b) {
  emulator::LaneOfMatrices lane{{a.x, a.y, a.z, a.w}, {b.x, b.y}, {}};
  constexpr bool kIsHalf = static_cast<int>(E) == 3;
  emulator::meet(emulator::Operation::kMatrices, reinterpret_cast<uint64_t>(&lane), kIsHalf);
  std::copy(lane.d, lane.d + 4, d);
}
inline uint32_t load_acquire(const uint32_t* p) {
  emulator::yield();
  return *p;
}
inline void store_release(uint32_t* p, uint32_t value) { *p = value; }

}  // namespace gmd::cuda
