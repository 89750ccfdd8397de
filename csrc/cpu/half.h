// float16 for processors without an instruction for it.
#pragma once

#include <cstdint>
#include <cstring>

namespace gmd::cpu {
namespace {

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of_half(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);  // Inf, NaN
  // float32's exponents begin 112 lower; a subnormal number is a count of the smallest one
  const float value = magnitude < 0x400 ? magnitude * 0x1p-24f : float_of_bits((magnitude << 13) + (112u << 23));
  return float_of_bits(sign | bits_of_float(value));
}

inline uint16_t half_of_float(float value) {
  const uint32_t sign = bits_of_float(value) >> 16 & 0x8000, magnitude = bits_of_float(value) & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);   // NaN
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more round to Inf
  if (magnitude < 0x38800000) {  // subnormal: the unit in the last place of 0.5f is that of the smallest float16
    return static_cast<uint16_t>(sign | (bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000));
  }
  const uint32_t nearest = magnitude + 0xfff + (magnitude >> 13 & 1);  // ties to even
  return static_cast<uint16_t>(sign | ((nearest - 0x38000000) >> 13));
}

}  // namespace
}  // namespace gmd::cpu
