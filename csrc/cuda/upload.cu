#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "launch.h"

namespace gmd::cuda {
namespace {

constexpr int kCarried = 4080;  // words; all arguments of a kernel together may have 32,764 bytes

struct Words {
  uint64_t at[kCarried];
};

__global__ void upload_kernel(const __grid_constant__ Words words, int count, uint64_t* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) to[i] = words.at[i];
}

}  // namespace

cudaError_t launch_upload(const uint64_t* words, int64_t count, uint64_t* to, cudaStream_t stream) {
  Words carried{};
  for (int64_t begin = 0; begin < count; begin += kCarried) {
    const int n = static_cast<int>(std::min<int64_t>(kCarried, count - begin));
    std::memcpy(carried.at, words + begin, n * sizeof(uint64_t));
    const LaunchShape shape{(n + kThreads - 1) / kThreads, kThreads, 0, stream};
    const cudaError_t error = launch(upload_kernel, shape, carried, n, to + begin);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace gmd::cuda
