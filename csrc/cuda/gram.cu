#include "gram.cuh"
#include "kernels.h"

namespace gmd::cuda {
namespace {

__global__ void __launch_bounds__(kThreads, 1) gram_kernel(Table table, Workspace workspace, double* gram) {
  const GramMemory memory(table);
  clear_empty_groups(table, gram);
  const Finish finish{table, workspace, *memory.state, memory.sums, kWarps, gram};
  gram_piece(table, memory, finish, Keep{});
}

}  // namespace

cudaError_t launch_gram(const Table& table, const Device& device, const Workspace& workspace, double* gram,
                        cudaStream_t stream) {
  const LaunchShape shape{gram_blocks(table.layout, device), kThreads, gram_shared_bytes(table.layout), stream};
  if (table.layout.num_objectives > kMaxFused) return launch_gram_wide(table, shape, workspace, gram);
  return launch(gram_kernel, shape, table, workspace, gram);
}

}  // namespace gmd::cuda
