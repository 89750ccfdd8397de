// The weighted sum of one window, within one warp.
#pragma once

#include "gram.cuh"

namespace gmd::cuda {

constexpr int kCombineUnits = 2;  // of a window that are loaded at once, kRows rows of each

// The lane's vectors of rows [first, first + kRows) in a unit, from where they were kept or from the gradients.
template <Type E, int kRows>
__device__ inline void fetch_unit(uint4 (&v)[kRows], const Rows& rows, int first, const Window& window, int u,
                                  const Keep& kept, int lane) {
  const int count = u < window.units ? rows.parameter.count : 0, slot = rows.slot + u * count;
  const int there = E == Type::kDouble ? 0 : min(count, kept.capacity - slot) - first;
  load_unit<E, kRows>(v, rows, first, count, window, u, lane, max(there, 0));
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    if (k < there) v[k] = kept.at(slot + first + k, is_short(E) ? kept_vector(first + k, lane) : lane);
  }
}

template <Type E, int N>
__device__ inline void store_unit(const double (&acc)[N], const Rows& rows, const Window& window, int unit, int lane) {
  constexpr int64_t kUnit = unit_elements(E);
  if (unit >= window.units) return;
  uint4 v = {0, 0, 0, 0};
#pragma unroll
  for (int e = 0; e < N; ++e) Elements<E>::set(v, e, acc[e]);
  const int64_t begin = window.unit(unit) * kUnit;
  char* to = static_cast<char*>(rows.parameter.result) + begin * size_of(E);
  if (rows.parameter.aligned && begin + kUnit <= rows.parameter.numel) {
    store_vector(to + lane * kVectorBytes, v);
  } else {
    scatter<E>(v, to, lane, static_cast<int>(min(kUnit, rows.parameter.numel - begin)));
  }
}

// result = sum_k rows.weights[k] * row k, in float64 whatever the type: a coefficient may be beyond float32. A lane has
// read an element of every row before it writes it: the result may be one of them.
template <Type E, int kRows>
__device__ inline void combine_window(const Rows& rows, const Window& window, const Keep& kept, int lane,
                                      int begin = 0) {
  constexpr int kElements = Elements<E>::kPerVector;
  for (int unit = begin; unit < window.units; unit += kCombineUnits) {
    double acc[kCombineUnits][kElements] = {};
    for (int first = 0; first < rows.parameter.count; first += kRows) {
      uint4 v[kCombineUnits][kRows];
#pragma unroll
      for (int u = 0; u < kCombineUnits; ++u) {
        fetch_unit<E, kRows>(v[u], rows, first, window, unit + u, kept, lane);
      }
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        if (first + k >= rows.parameter.count) break;
        const double weight = rows.weights[first + k];
#pragma unroll
        for (int u = 0; u < kCombineUnits; ++u) {
#pragma unroll
          for (int e = 0; e < kElements; ++e) acc[u][e] += weight * static_cast<double>(Elements<E>::get(v[u][k], e));
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kCombineUnits; ++u) {
      store_unit<E>(acc[u], rows, window, unit + u, lane);
    }
  }
}

// The same of R = 1 or 2 rows, of the units from the first on that are whole: more of them under way at once. Returns
// the first unit that is left over.
template <Type E, int R>
__device__ inline int combine_few(const Rows& rows, const Window& window, int lane) {
  constexpr int kAtOnce = 8 / R, kElements = Elements<E>::kPerVector;
  const int64_t whole = rows.parameter.aligned ? rows.parameter.numel / unit_elements(E) : 0;
  int unit = 0;
  for (; unit + kAtOnce <= window.units && window.unit(unit + kAtOnce - 1) < whole; unit += kAtOnce) {
    uint4 v[kAtOnce][R];
#pragma unroll
    for (int i = 0; i < kAtOnce * R; ++i) {
      const int64_t place = window.unit(unit + i / R) * kUnitBytes + lane * kVectorBytes;
      v[i / R][i % R] = load_vector(rows.data[i % R] + place);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      double acc[kElements] = {};
#pragma unroll
      for (int i = 0; i < R * kElements; ++i) {
        const int k = i / kElements, e = i % kElements;
        acc[e] += rows.weights[k] * static_cast<double>(Elements<E>::get(v[u][k], e));
      }
      store_unit<E>(acc, rows, window, unit + u, lane);
    }
  }
  return unit;
}

__device__ inline void read_weights(Rows& rows, const Weights& weights, const Descriptor& d, int lane) {
  const int64_t row = weights.rows == Weights::Rows::kPerParameter ? d.index : 2 * d.group + !d.is_shared;
  for (int k = lane; k < d.count; k += 32) {
    rows.weights[k] = load_fresh(weights.data + row * weights.row_stride + rows.objectives[k] * weights.column_stride);
  }
}

}  // namespace gmd::cuda
