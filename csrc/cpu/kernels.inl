// The kernels once, for the vector width that the including file sets:
//   GMD_ISA           name of the instruction set, a string
//   GMD_KERNELS       name of the table that this makes
//   GMD_VECTOR_BYTES  width of a vector register
//   GMD_TILE          objectives on a side of a tile: GMD_TILE^2 + GMD_TILE + 1 vectors must fit the registers
// and for what the compilers' own vector conversions do badly or not at all:
//   widen_floats      float32 -> float64, half a vector of them
//   fold              float32 -> float64, the sum of the two halves of a vector
//   widen_shorts      16 bits -> 32, zeros above them
//   widen_halves      float16 -> float32
//   narrow_to_halves  float32 -> float16, to the nearest
// Written in the vector extensions of GCC and Clang, so that one text becomes SSE2, NEON, AVX2 or AVX-512.

#include "combine_kernel.inl"
#include "gram_kernel.inl"
#include "norm_kernel.inl"
#include "owm_kernel.inl"
#include "sketch_kernel.inl"

namespace gmd::cpu {

const Kernels GMD_KERNELS = {
    GMD_ISA, kLanes, gram, combine, {reduce<Moments>, reduce<GradientSums>, map<Forward>, map<Backward>}, owm, sketch,
};

}  // namespace gmd::cpu
