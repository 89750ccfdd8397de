// The launches, as functions that Python can call (tests/helpers/cuda_emulator.py).
#include <algorithm>
#include <memory>

#include "block_piece.cuh"
#include "kernels.h"
#include "philox.cuh"

using namespace gmd::cuda;

namespace {

struct CPlan {
  Plan plan;
  std::vector<uint64_t> uploaded;
  Table table() const { return {uploaded.data(), plan.layout}; }
};

__global__ void philox_kernel(const uint32_t* in, uint32_t* out) {
  if (threadIdx.x > 0) return;
  const uint4 bits = philox({in[0], in[1], in[2], in[3]}, {in[4], in[5]});
  out[0] = bits.x, out[1] = bits.y, out[2] = bits.z, out[3] = bits.w;
}

__global__ void pieces_kernel(Table table, Piece* to) {
  const Piece piece = piece_of_block(table);
  if (threadIdx.x == 0) to[blockIdx.x] = piece;
}

std::vector<SketchSource> sketch_sources(const int64_t* sources, int64_t count) {
  std::vector<SketchSource> found;
  for (const int64_t* s = sources; s < sources + 4 * count; s += 4) {
    found.push_back({reinterpret_cast<const char*>(s[0]), s[1], 0, s[2], s[3]});
  }
  return found;
}

}  // namespace

extern "C" {

struct CSource {
  int64_t numel;
  int64_t type, group, count;
  const void* const* gradients;
  const int* objectives;
  void* result;
};

struct COrder {
  const int64_t* given;
  uint64_t seed, offset;
  const int64_t *seed_at, *offset_at;
  uint64_t offset_intragraph;
  int64_t* drawn;

  Order order() const { return {given, {seed, offset, seed_at, offset_at, offset_intragraph}, drawn}; }
};

CPlan* plan_new(const CSource* parameters, int64_t count, int num_objectives, int num_groups) {
  std::vector<Source> sources;
  for (int64_t p = 0; p < count; ++p) {
    const CSource& c = parameters[p];
    sources.push_back({c.numel, static_cast<Type>(c.type), static_cast<int>(c.group), static_cast<int>(c.count),
                       c.gradients, c.objectives, c.result});
  }
  auto plan = std::make_unique<CPlan>();
  plan->plan = make_plan(sources, num_objectives, num_groups);
  return plan.release();
}

void plan_delete(CPlan* plan) { delete plan; }

int plan_upload(CPlan* plan) {
  const std::vector<uint64_t>& words = plan->plan.words;
  plan->uploaded.assign(words.size(), ~uint64_t{0});
  plan->uploaded.shrink_to_fit();
  return launch_upload(words.data(), static_cast<int64_t>(words.size()), plan->uploaded.data(), nullptr);
}

void plan_words(const CPlan* plan, uint64_t* to) { std::copy(plan->uploaded.begin(), plan->uploaded.end(), to); }

// length, units, descriptors, words, blocks of gram, of combine, partials, counters, bytes of gram, of surgery, of each
// of its warps, whether it fits
void plan_numbers(const CPlan* plan, const Device* device, int64_t* to) {
  const Layout& layout = plan->plan.layout;
  const Residency residency = surgery_residency(layout, *device);
  const int64_t numbers[] = {layout.length,
                             layout.units,
                             layout.num_descriptors,
                             static_cast<int64_t>(plan->plan.words.size()),
                             gram_blocks(layout, *device),
                             combine_blocks(layout, *device),
                             partials_size(layout, *device),
                             counters_size(layout),
                             gram_shared_bytes(layout),
                             residency.shared_bytes,
                             residency.bytes_per_warp,
                             fits_surgery(layout, *device)};
  std::copy(std::begin(numbers), std::end(numbers), to);
}

// begin, numel, index, group, count, type, aligned, is_shared, turn, units of a descriptor
void plan_descriptor(const CPlan* plan, int64_t which, int64_t* to) {
  const Descriptor& d = reinterpret_cast<const Descriptor*>(plan->plan.words.data())[which];
  const int64_t numbers[] = {d.begin,   d.numel,     d.index, d.group,  d.count, static_cast<int64_t>(d.type),
                             d.aligned, d.is_shared, d.turn,  d.units()};
  std::copy(std::begin(numbers), std::end(numbers), to);
}

int64_t place_begin(int64_t length, int64_t blocks, int64_t block) { return piece_begin(length, blocks, block); }
int64_t place_block(int64_t length, int64_t blocks, int64_t place) { return piece_of(length, blocks, place); }

// [blocks, 4]: where each block's piece of the line begins and ends, and its descriptors
int run_pieces(const CPlan* plan, int blocks, int64_t* to) {
  std::vector<Piece> pieces(blocks);
  cudaLaunchConfig_t config{dim3(blocks), dim3(kThreads), 0, nullptr, nullptr, 0};
  const cudaError_t error = cudaLaunchKernelEx(&config, pieces_kernel, plan->table(), pieces.data());
  for (const Piece& piece : pieces) {
    for (const int64_t number : {piece.begin, piece.end, int64_t{piece.first}, int64_t{piece.last}}) *to++ = number;
  }
  return error;
}

int run_gram(const CPlan* plan, const Device* device, uint32_t* counters, double* partials, double* gram) {
  return launch_gram(plan->table(), *device, {counters, partials}, gram, nullptr);
}

int run_weights(const double* gram, int64_t num_gramians, int t, const COrder* order, double* projections,
                double* weights, int mean) {
  return launch_weights(gram, num_gramians, t, order->order(), projections, weights, mean, nullptr);
}

int run_combine(const CPlan* plan, const Device* device, const double* weights, int per_group, int64_t row_stride,
                int64_t column_stride) {
  const auto rows = per_group ? Weights::Rows::kPerGroup : Weights::Rows::kPerParameter;
  return launch_combine(plan->table(), *device, {weights, rows, row_stride, column_stride}, nullptr);
}

int run_surgery(const CPlan* plan, const Device* device, uint32_t* counters, double* partials, const COrder* order,
                int mean, double* gram, double* weights) {
  return launch_surgery(plan->table(), *device, {counters, partials}, order->order(), mean, gram, weights, nullptr);
}

// sources [count, 4]: address, numel, index, type. How many slices there are; the partials are [slices, d].
int sketch_slices(const int64_t* sources, int64_t count, int64_t d) {
  std::vector<SketchSource> found = sketch_sources(sources, count);
  return sketch_task(make_sketch_plan(found, d).layout, d, 0, Type::kFloat).slices;
}

int run_sketch(const int64_t* sources, int64_t count, int64_t d, uint64_t seed, int type, void* partials,
               void* sketch) {
  std::vector<SketchSource> found = sketch_sources(sources, count);
  const Plan plan = make_sketch_plan(found, d);
  const SketchTask task = sketch_task(plan.layout, d, seed, static_cast<Type>(type));
  const cudaError_t error = launch_sketch({plan.words.data(), plan.layout}, task, partials, nullptr);
  return error ? error : launch_sketch_sum(task, partials, sketch, nullptr);
}

void run_philox(const uint32_t* in /*[6]*/, uint32_t* out /*[4]*/) {
  cudaLaunchConfig_t config{dim3(1), dim3(32), 0, nullptr, nullptr, 0};
  cudaLaunchKernelEx(&config, philox_kernel, in, out);
}

}  // extern "C"
