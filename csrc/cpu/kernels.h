// The inner loops of the CPU backend, free of torch: plain pointers in, plain pointers out.
#pragma once

#include <cstdint>

namespace gmd::cpu {

constexpr int kMaxObjectives = 64;

struct Kernels {
  const char* isa;

  // products[i * t + j] += sum_x rows[i][x] * rows[j][x] for i <= j; products are exact in float64, and so is the sum
  // up to rounding. The lower triangle is not touched.
  void (*gram)(const float* const* rows /*[t][n]*/, int t, int64_t n, double* products /*[t][t]*/);

  // out[x] = sum_k weights[k] * rows[k][x]; out may be one of the rows.
  void (*combine)(const float* const* rows /*[t][n]*/, const float* weights /*[t]*/, int t, int64_t n,
                  float* out /*[n]*/);
};

extern const Kernels generic_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The widest one that this processor has; the environment variable GMD_CPU_ISA=generic|avx2|avx512 narrows it.
const Kernels& kernels();

}  // namespace gmd::cpu
