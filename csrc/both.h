// Functions that the CPU and a GPU run alike.
#pragma once

#ifdef __CUDACC__
#define GMD_BOTH __host__ __device__
#else
#define GMD_BOTH
#endif
