// What needs an instruction of its own. For compilers other than nvcc, tests/helpers/cuda/emulator.h has the same
// functions.
#pragma once

#include <cuda_runtime.h>

#include "table.h"

#ifdef __CUDACC__
namespace gmd::cuda {

// The memory that a block shares; its size is given at the launch.
__device__ inline char* dynamic_shared() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<char*>(memory);
}

// Gradients and results: their addresses come from memory, and the compiler has to be told of what kind they are.
template <class T>
__device__ inline T* global(T* p) {
  __builtin_assume(__isGlobal(p));
  return p;
}

// The same number, of which the compiler does not know that it is: what follows from it is worked out anew, and not
// kept in registers from before a loop.
__device__ inline int forget(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

__device__ inline float widen_half(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// To the nearest, ties to even.
__device__ inline uint16_t narrow_to_half(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// Two to a word, the first one low; to the nearest, ties to even.
__device__ inline uint32_t narrow_to_bfloat16s(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// Towards zero.
__device__ inline float truncate(double value) { return __double2float_rz(value); }

// d [16, 8] = a [16, 16] times b [16, 8], 16-bit numbers, on the tensor cores; all lanes of a warp together. Lane l has
// of a rows l / 4 (x, z) and l / 4 + 8 (y, w), columns 2 (l % 4) and the next (x, y) and those 8 further (z, w); of b
// column l / 4, of which its rows are as a's columns (x, y); of d rows l / 4 (0, 1) and l / 4 + 8 (2, 3), columns
// 2 (l % 4) and the next.
template <Type E>
__device__ inline void multiply_matrices(float* d, const uint4& a, const uint2& b) {
  if constexpr (E == Type::kHalf) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %10, %10, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "f"(0.0f));
  } else {
    static_assert(E == Type::kBFloat16);
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %10, %10, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "f"(0.0f));
  }
}

// What another block wrote: past the first-level cache, which may hold what was there before.
__device__ inline double load_fresh(const double* p) { return __ldcg(p); }

// Everything that the block which released it had written before is visible to who acquires the new value.
__device__ inline uint32_t load_acquire(const uint32_t* p) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
__device__ inline void store_release(uint32_t* p, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" : : "l"(p), "r"(value) : "memory");
}

}  // namespace gmd::cuda
#endif
