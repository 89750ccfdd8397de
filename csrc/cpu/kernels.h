// The inner loops of the CPU backend, free of torch: plain pointers in, plain pointers out.
#pragma once

#include <cstdint>

namespace gmd::cpu {

constexpr int kMaxObjectives = 64;  // as in gradients.h

enum class Type { kFloat, kDouble, kBFloat16, kHalf };

// Where the sums of a pair of objectives i <= j stand among those of all pairs.
constexpr int pair_index(int i, int j) { return j * (j + 1) / 2 + i; }

// GroupNorm + ReLU over a run of n elements, whose constants come as tables of one period, see norm_kernel.inl.
struct NormKernels {
  // sums += two sums over the elements at each place of the period.
  using Reduce = void (*)(Type type, const void* const* in /*[..][n]*/, const void* tables /*[..][period]*/,
                          int64_t period, int64_t n, double* sums /*[2][period]*/);
  // out[x] from what stands at x.
  using Map = void (*)(Type type, const void* const* in /*[..][n]*/, const void* tables /*[..][period]*/,
                       int64_t period, int64_t n, void* out /*[n]*/);

  Reduce moments;        // of x - shift: x; shift
  Reduce gradient_sums;  // of the masked gradient, and of its product with x - mean: x, gradient; mean, scale, bias
  Map forward;           // x; mean, scale, bias
  Map backward;          // x, gradient; mean, scale, bias, slope, offset
};

// Some rows of a projector [d][d] in some of its columns, and what is done with them, see owm_kernel.inl.
struct OwmBlock {
  int64_t d, first, rows;  // rows first .. first + rows, at most kOwmRows
  int64_t begin, end;      // columns
  void* projector;         // [d][d]
  const void* step;        // [d]: step[i] * step[j] is taken away from entry (i, j) first; null: nothing is
  const void* left;        // [count][d]
  int64_t count;
  void* sums;  // [count][d]: sums[c][j] += sum_i left[c][i] * projector[i][j]
};
constexpr int64_t kOwmRows = 128;  // that are added up in the projector's type by themselves

// Neighbouring elements of a gradient, from element `first` of their parameter on.
struct SketchRow {
  const void* values;
  int64_t first;
  uint64_t key;  // of the parameter, see sketch_map.h
};
constexpr int kSketchRows = 8;  // that are added at a time

struct Kernels {
  const char* isa;
  int lanes;  // float64 partial sums per pair of objectives

  // sums[pair_index(objectives[i], objectives[j])][..] += sum_x rows[i][x] * rows[j][x], for i <= j.
  void (*gram)(Type type, const void* const* rows /*[t][n]*/, const int* objectives /*[t], ascending*/, int t,
               int64_t n, double* sums /*[pairs][lanes]*/);

  // out[x] = sum_k weights[k] * rows[k][x]; out may be one of the rows.
  void (*combine)(Type type, const void* const* rows /*[t][n]*/, const double* weights /*[t]*/, int t, int64_t n,
                  void* out /*[n]*/);

  NormKernels norm;

  void (*owm)(Type type /*kFloat or kDouble*/, const OwmBlock& block);

  // buckets[x] += the signed element x of each row, in their order.
  void (*sketch)(Type of_sketch /*kFloat or kDouble*/, Type type, const SketchRow* rows /*[count]*/,
                 int count /*1..kSketchRows*/, int64_t n, void* buckets /*[n]*/);
};

extern const Kernels generic_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The widest one that this processor has; the environment variable GMD_CPU_ISA=generic|avx2|avx512 narrows it.
const Kernels& kernels();

}  // namespace gmd::cpu
