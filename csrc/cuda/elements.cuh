// Elements of each type, as they lie in vectors of 16 bytes.
#pragma once

#include "device.cuh"

namespace gmd::cuda {

__device__ inline uint32_t word_of(const uint4& v, int w) { return w == 0 ? v.x : w == 1 ? v.y : w == 2 ? v.z : v.w; }

__device__ inline void set_word(uint4& v, int w, uint32_t word) {
  (w == 0 ? v.x : w == 1 ? v.y : w == 2 ? v.z : v.w) = word;
}

// A float32 that rounds to fewer bits as the value itself does: towards zero, and odd if that was not exact.
__device__ inline float round_to_odd(double value) {
  const float nearest_inside = truncate(value);
  const bool exact = static_cast<double>(nearest_inside) == value;
  return __uint_as_float(__float_as_uint(nearest_inside) | !exact);
}

// visit(the type, as an integral_constant).
template <class Visit>
__device__ inline auto with_type(Type type, Visit visit) {
  switch (type) {
    case Type::kFloat:
      return visit(std::integral_constant<Type, Type::kFloat>{});
    case Type::kDouble:
      return visit(std::integral_constant<Type, Type::kDouble>{});
    case Type::kBFloat16:
      return visit(std::integral_constant<Type, Type::kBFloat16>{});
    default:
      return visit(std::integral_constant<Type, Type::kHalf>{});
  }
}

// get: element e of a vector. set: a result into it, rounded once to the nearest, ties to even.
template <Type E>
struct Elements;

template <>
struct Elements<Type::kFloat> {
  using Bits = uint32_t;
  static constexpr int kPerVector = 4;
  __device__ static float get(const uint4& v, int e) { return __uint_as_float(word_of(v, e)); }
  __device__ static void set(uint4& v, int e, double x) { set_word(v, e, __float_as_uint(static_cast<float>(x))); }
};

template <>
struct Elements<Type::kDouble> {
  using Bits = uint64_t;
  static constexpr int kPerVector = 2;
  __device__ static double get(const uint4& v, int e) {
    return __hiloint2double(word_of(v, 2 * e + 1), word_of(v, 2 * e));
  }
  __device__ static void set(uint4& v, int e, double x) {
    set_word(v, 2 * e, __double2loint(x));
    set_word(v, 2 * e + 1, __double2hiint(x));
  }
};

// Two elements of 16 bits to a word.
__device__ inline void set_short(uint4& v, int e, uint32_t bits) {
  const uint32_t word = word_of(v, e / 2);
  set_word(v, e / 2, e % 2 == 0 ? (word & 0xffff0000u) | bits : (word & 0xffffu) | bits << 16);
}

template <>
struct Elements<Type::kBFloat16> {
  using Bits = uint16_t;
  static constexpr int kPerVector = 8;
  __device__ static float get(const uint4& v, int e) {
    const uint32_t word = word_of(v, e / 2);
    return __uint_as_float(e % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
  __device__ static void set(uint4& v, int e, double x) {
    const uint32_t bits = __float_as_uint(round_to_odd(x)), nearest = bits + 0x7fff + (bits >> 16 & 1);
    set_short(v, e, (x != x ? 0x7fc00000u : nearest) >> 16);
  }
};

template <>
struct Elements<Type::kHalf> {
  using Bits = uint16_t;
  static constexpr int kPerVector = 8;
  __device__ static float get(const uint4& v, int e) {
    return widen_half(static_cast<uint16_t>(word_of(v, e / 2) >> 16 * (e % 2)));
  }
  __device__ static void set(uint4& v, int e, double x) { set_short(v, e, narrow_to_half(round_to_odd(x))); }
};

__device__ inline uint4 load_vector(const void* p) { return *global(static_cast<const uint4*>(p)); }
__device__ inline void store_vector(void* p, const uint4& v) { *global(static_cast<uint4*>(p)) = v; }

// Element x of a row of neighbours.
template <Type E>
__device__ inline auto load_element(const char* row, int64_t x) {
  const auto bits = *global(reinterpret_cast<const typename Elements<E>::Bits*>(row) + x);
  if constexpr (E == Type::kDouble) {
    return __longlong_as_double(bits);
  } else {
    return Elements<E>::get(uint4{bits, 0, 0, 0}, 0);
  }
}

// A lane's vector of a unit that cannot be read in vectors: elements lane, lane + 32, .. of it, so that the lanes of a
// warp read neighbours. The unit has `there` elements; zeros for what is behind.
template <Type E>
__device__ inline uint4 gather(const char* unit, int lane, int there) {
  using Bits = typename Elements<E>::Bits;
  constexpr int kBits = 8 * sizeof(Bits), kPerWord = kBits < 32 ? 32 / kBits : 1;
  const Bits* at = reinterpret_cast<const Bits*>(unit) + lane;
  uint4 v = {0, 0, 0, 0};
#pragma unroll
  for (int e = 0; e < Elements<E>::kPerVector; ++e) {
    const Bits bits = lane + 32 * e < there ? *global(at + 32 * e) : Bits{0};
    if constexpr (kBits == 64) {
      set_word(v, 2 * e, static_cast<uint32_t>(bits));
      set_word(v, 2 * e + 1, static_cast<uint32_t>(uint64_t{bits} >> 32));
    } else {
      set_word(v, e / kPerWord, word_of(v, e / kPerWord) | static_cast<uint32_t>(bits) << kBits % 32 * (e % kPerWord));
    }
  }
  return v;
}

// The other way.
template <Type E>
__device__ inline void scatter(const uint4& v, char* unit, int lane, int there) {
  using Bits = typename Elements<E>::Bits;
  constexpr int kBits = 8 * sizeof(Bits), kPerWord = kBits < 32 ? 32 / kBits : 1;
  Bits* at = reinterpret_cast<Bits*>(unit) + lane;
#pragma unroll
  for (int e = 0; e < Elements<E>::kPerVector; ++e) {
    if (lane + 32 * e >= there) continue;
    if constexpr (kBits == 64) {
      *global(at + 32 * e) = static_cast<uint64_t>(word_of(v, 2 * e + 1)) << 32 | word_of(v, 2 * e);
    } else {
      *global(at + 32 * e) = static_cast<Bits>(word_of(v, e / kPerWord) >> kBits % 32 * (e % kPerWord));
    }
  }
}

}  // namespace gmd::cuda
