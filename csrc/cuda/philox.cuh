// Philox4x32-10 (Salmon et al., SC 2011): random numbers as a function of a counter and a key.
#pragma once

#include "kernels.h"

namespace gmd::cuda {

__device__ inline uint4 philox(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter.x, b = uint64_t{0xCD9E8D57u} * counter.z;
    counter = {static_cast<uint32_t>(b >> 32) ^ counter.y ^ key.x, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter.w ^ key.y, static_cast<uint32_t>(a)};
    key = {key.x + 0x9E3779B9u, key.y + 0xBB67AE85u};
  }
  return counter;
}

// 64 random bits: those of one subsequence of the generator, at its present offset.
__device__ inline uint64_t random_bits(const Philox& state, uint64_t subsequence) {
  const bool captured = state.seed_at != nullptr;
  const uint64_t seed = captured ? static_cast<uint64_t>(*state.seed_at) : state.seed;
  const uint64_t offset =
      (captured ? static_cast<uint64_t>(*state.offset_at) + state.offset_intragraph : state.offset) / kPhiloxIncrement;
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
  const uint4 bits = philox({low(offset), high(offset), low(subsequence), high(subsequence)}, {low(seed), high(seed)});
  return static_cast<uint64_t>(bits.y) << 32 | bits.x;
}

}  // namespace gmd::cuda
