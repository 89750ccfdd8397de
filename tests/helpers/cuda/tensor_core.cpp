// A product of matrices as tensor cores make it: they are not documented, this is what measurements of them found
// (Fasi et al., PeerJ Computer Science 7, 2021; Khattak and Mikaitis, arXiv 2512.07004).
//
// Products are exact, and come in blocks. Those of a block and the sum so far are cut off, not rounded, at some bits
// below the largest of their exponents, added up, and the sum is cut off to float32. The exponent of a product is the
// sum of those of its factors as they are stored: that of a subnormal number is the least there is, however small it
// is. A100: blocks of 8 and 24 bits; H100, B200: of 16 and 25. Errors of the first can be the larger ones.
#include <cmath>
#include <vector>

#include "emulator.h"

namespace emulator {
namespace {

struct Adder {
  int block, bits;
};
constexpr Adder kAdders[] = {{8, 24}, {16, 25}};
Adder adder = kAdders[0];

struct Number {
  double value;
  int exponent;  // as it is stored
};

Number widened(uint16_t bits, bool half) {
  const float value = half ? gmd::cuda::widen_half(bits) : bits_to<float>(uint32_t{bits} << 16);
  const int least = half ? -14 : -126;
  return {value, value == 0 || !std::isfinite(value) ? least : std::max(least, std::ilogb(value))};
}

std::vector<Number> all_numbers(bool half) {
  std::vector<Number> all;
  for (int bits = 0; bits <= 0xffff; ++bits) all.push_back(widened(static_cast<uint16_t>(bits), half));
  return all;
}

Number widen(uint16_t bits, bool half) {
  static const std::vector<Number> bfloat16s = all_numbers(false), halves = all_numbers(true);
  return (half ? halves : bfloat16s)[bits];
}

float add_block(float so_far, const Number* a, const Number* b) {
  double plain = so_far;
  int exponent = so_far == 0 ? -300 : std::max(-126, std::ilogb(so_far));
  for (int k = 0; k < adder.block; ++k) {
    plain += a[k].value * b[k].value;
    exponent = std::max(exponent, a[k].exponent + b[k].exponent);
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  const double scale = std::ldexp(1.0, adder.bits - exponent);
  double sum = std::trunc(so_far * scale);
  for (int k = 0; k < adder.block; ++k) sum += std::trunc(a[k].value * b[k].value * scale);
  return gmd::cuda::truncate(std::ldexp(sum, exponent - adder.bits));
}

uint16_t short_of(uint32_t word, int which) { return static_cast<uint16_t>(word >> 16 * which); }

}  // namespace

void multiply_matrices(LaneOfMatrices* const (&lanes)[32], bool half) {
  Number a[16][16], b[8][16];
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const int row = lane / 4 + 8 * (i / 2 % 2), k = 2 * (lane % 4) + i % 2 + 8 * (i / 4);
      a[row][k] = widen(short_of(lanes[lane]->a[i / 2], i % 2), half);
    }
    for (int i = 0; i < 4; ++i) {
      b[lane / 4][2 * (lane % 4) + i % 2 + 8 * (i / 2)] = widen(short_of(lanes[lane]->b[i / 2], i % 2), half);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; k += adder.block) sum = add_block(sum, a[row] + k, b[column] + k);
      lanes[lane]->d[i] = sum;
    }
  }
}

}  // namespace emulator

extern "C" void emulator_tensor_core(int which) { emulator::adder = emulator::kAdders[which]; }
