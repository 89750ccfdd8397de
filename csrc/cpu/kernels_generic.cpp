// What every compiler target has: SSE2 on x86-64, NEON on Arm.
#include "kernels.h"

#define GMD_ISA "generic"
#define GMD_KERNELS generic_kernels
#define GMD_VECTOR_BYTES 16
#define GMD_TILE 3
#define GMD_LOAD(p) \
  Doubles { double((p)[0]), double((p)[1]) }

#include "kernels.inl"
