// From the user's gradients to the table that the kernels read, and how large the launches are. Plain C++.
#pragma once

#include <cstdint>
#include <vector>

#include "table.h"

namespace gmd::cuda {

// One parameter, as the caller has it. What it points to is read by make_plan and not kept.
struct Source {
  int64_t numel;
  Type type;
  int group;                     // 0..K-1
  int count;                     // how many objectives reach it
  const void* const* gradients;  // [count], on the device; dense, all in one order of memory, which is the result's too
  const int* objectives;         // [count], ascending, 0..T-1
  void* result;                  // on the device; null: none
};

// words goes to the device as it is, layout to the kernels by value.
struct Plan {
  std::vector<uint64_t> words;
  Layout layout;
};

Plan make_plan(const std::vector<Source>& parameters,  // [P]
               int num_objectives,                     // T
               int num_groups);                        // K

// What the launches have to know of a device: cudaDevAttrMultiProcessorCount and
// cudaDevAttrMaxSharedMemoryPerBlockOptin.
struct Device {
  int multiprocessors;
  int shared_bytes;
};

// Blocks of launch_gram and launch_surgery; these have the same number, so that they take sums in the same order.
int gram_blocks(const Layout& layout, const Device& device);

// Blocks of launch_combine.
int combine_blocks(const Layout& layout, const Device& device);

// float64 numbers that Workspace::partials has to hold for launch_gram and launch_surgery.
int64_t partials_size(const Layout& layout, const Device& device);

// 32-bit numbers that Workspace::counters has to hold for launch_gram and launch_surgery.
int64_t counters_size(const Layout& layout);

// Dynamic shared memory of a block of launch_gram, in bytes.
int gram_shared_bytes(const Layout& layout);

// Of a block of launch_surgery, and how much of that each warp keeps gradients in: a multiple of kUnitBytes.
struct Residency {
  int shared_bytes;
  int bytes_per_warp;
};
Residency surgery_residency(const Layout& layout, const Device& device);

// Whether launch_surgery serves this: one group, at most kMaxFused objectives, something to do, and a device with the
// memory.
bool fits_surgery(const Layout& layout, const Device& device);

}  // namespace gmd::cuda
