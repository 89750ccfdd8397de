// Which bucket each element of a gradient goes to, and with which sign; gmd_kernels/sketch.py says why. Plain C++.
#pragma once

#include <cstdint>

#include "both.h"

namespace gmd {

constexpr int kSignBits = 64;  // elements whose signs one number holds

// Number n of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) from a state on.
GMD_BOTH constexpr uint64_t draw(uint64_t state, uint64_t n) {
  uint64_t x = state + (n + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

GMD_BOTH constexpr uint64_t parameter_key(uint64_t seed, uint64_t parameter) { return draw(seed, parameter); }

// Bit i % 64: whether element i, one of word i / 64, is subtracted.
GMD_BOTH constexpr uint64_t sign_word(uint64_t key, uint64_t word) { return draw(key, 2 * word); }

GMD_BOTH constexpr int64_t rotation(uint64_t key, uint64_t block, int64_t d) {
  return static_cast<int64_t>((draw(key, 2 * block + 1) >> 1) % static_cast<uint64_t>(d));
}

// Buckets [begin, end) take elements first, first + 1, .. of a parameter, one each.
struct Run {
  int64_t begin, end, first;
};

// A block, elements block * d .. of a parameter, goes to the buckets in two runs, of which the second, from bucket 0
// on, may be empty.
GMD_BOTH constexpr Run run_of_block(uint64_t key, int64_t numel, int64_t d, int64_t block, bool second) {
  const int64_t first = block * d, left = numel - first, length = left < d ? left : d;
  const int64_t turned = rotation(key, block, d), whole = turned + length;
  if (second) return {0, whole > d ? whole - d : 0, first + d - turned};
  return {turned, whole < d ? whole : d, first};
}

}  // namespace gmd
