// The inner loops of the CPU backend, free of torch: plain pointers in, plain pointers out.
#pragma once

#include <cstdint>

namespace gmd::cpu {

constexpr int kMaxObjectives = 64;  // as in gradients.h

enum class Type { kFloat, kDouble, kBFloat16, kHalf };

// Where the sums of a pair of objectives i <= j stand among those of all pairs.
constexpr int pair_index(int i, int j) { return j * (j + 1) / 2 + i; }

struct Kernels {
  const char* isa;
  int lanes;  // float64 partial sums per pair of objectives

  // sums[pair_index(objectives[i], objectives[j])][..] += sum_x rows[i][x] * rows[j][x], for i <= j.
  void (*gram)(Type type, const void* const* rows /*[t][n]*/, const int* objectives /*[t], ascending*/, int t,
               int64_t n, double* sums /*[pairs][lanes]*/);

  // out[x] = sum_k weights[k] * rows[k][x]; out may be one of the rows.
  void (*combine)(Type type, const void* const* rows /*[t][n]*/, const double* weights /*[t]*/, int t, int64_t n,
                  void* out /*[n]*/);
};

extern const Kernels generic_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The widest one that this processor has; the environment variable GMD_CPU_ISA=generic|avx2|avx512 narrows it.
const Kernels& kernels();

}  // namespace gmd::cpu
