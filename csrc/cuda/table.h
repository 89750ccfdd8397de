// What the kernels know of the gradients: written by plan.cpp, read on the device. Plain C++.
#pragma once

#include <cstdint>

#include "../both.h"

namespace gmd::cuda {

constexpr int kMaxObjectives = 64;
constexpr int kMaxFused = 16;  // objectives whose products fit into the registers of a warp
constexpr int kVectorBytes = 16;
constexpr int kUnitBytes = 32 * kVectorBytes;  // of each gradient: a vector for every lane of a warp
constexpr int kWarps = 8;                      // of a block, in every kernel that goes along the line
constexpr int kThreads = 32 * kWarps;

enum class Type : uint8_t { kFloat, kDouble, kBFloat16, kHalf };

GMD_BOTH constexpr int size_of(Type type) { return type == Type::kDouble ? 8 : type == Type::kFloat ? 4 : 2; }
GMD_BOTH constexpr bool is_short(Type type) { return size_of(type) == 2; }
GMD_BOTH constexpr int unit_elements(Type type) { return kUnitBytes / size_of(type); }

// Where the sum of a pair of objectives i <= j stands among those of all pairs.
GMD_BOTH constexpr int pair_index(int i, int j) { return j * (j + 1) / 2 + i; }
GMD_BOTH constexpr int num_pairs(int t) { return t * (t + 1) / 2; }

// Of more than kMaxFused objectives a block has so many Gramians, of which each belongs to one or two warps.
GMD_BOTH constexpr int wide_slices(int t) { return t <= 32 ? 8 : 4; }

// One parameter that there is something to do for; those without elements, or that no objective reaches and that have
// no result, are left out of the table.
//
// Its elements are cut into units of kUnitBytes per gradient, the last one may be shorter. All units of all parameters
// lie on one line, group after group, where each takes as much room as it costs to read and write. So the line depends
// on the shapes alone, and equal pieces of it are equal work.
struct Descriptor {
  int64_t begin;      // of its first unit on the line
  int64_t numel;      // elements of each gradient
  void* result;       // null: none
  int32_t first;      // its gradients are those from this place on among all pointers, and all objectives
  int32_t index;      // among the parameters that the user gave: its row of the weights
  int32_t group;      // 0..K-1
  uint8_t count;      // how many objectives reach it
  Type type;          // of its gradients and its result
  bool aligned;       // all of these lie at multiples of 16 bytes
  bool is_shared;     // every objective reaches it
  uint8_t turn;       // how many units lie before it on the line, modulo kWarps
  uint8_t unused[7];  // zeros: equal tables are equal bytes

  GMD_BOTH int64_t cost() const { return count + 1; }  // of a unit
  GMD_BOTH int64_t units() const { return (numel + unit_elements(type) - 1) / unit_elements(type); }
};

// Where things lie in the words of a plan.
struct Layout {
  int64_t length = 0;          // of the line
  int64_t units = 0;           // on it
  int32_t num_objectives = 0;  // T
  int32_t num_groups = 1;      // K
  int32_t num_descriptors = 0;
  int32_t pointers = 0;    // word where the pointers to gradients begin; the descriptors begin at 0
  int32_t objectives = 0;  // word where the objectives of the gradients begin, one byte each
  int32_t bounds = 0;      // word where the places on the line begin at which each group begins, [K + 1]
};

// A Gramian in shared memory is padded with zeros: loops over it have a fixed length, all loads of which are under way
// at once.
GMD_BOTH constexpr int padded_side(int t) { return t <= 16 ? 16 : t <= 32 ? 32 : 64; }

// Shared memory of pcgrad: the Gramian, the coefficients and the order, see WeightsMemory.
GMD_BOTH constexpr int weights_shared_bytes(int t) {
  const int side = padded_side(t);
  return side * side * 8 + side * (side + 1) * 8 + side * side;
}

// Of the sums of a block's warps where there are at most kMaxFused objectives; when these are done pcgrad gets the
// place.
GMD_BOTH constexpr int fused_sums_bytes(int t) {
  const int sums = kWarps * num_pairs(t) * 8;
  return sums > weights_shared_bytes(t) ? sums : weights_shared_bytes(t);
}

// Units first, first + step, .. of one parameter, so many of them.
struct Window {
  int64_t first;
  int units, step;

  GMD_BOTH int64_t unit(int u) const { return first + int64_t{u} * step; }
};

// The gradients of the parameter that a warp is working on, in shared memory: registers are for their elements.
struct Rows {
  const char* data[kMaxObjectives];
  double weights[kMaxObjectives];
  Descriptor parameter;
  Window window;
  int64_t end;                         // of the units that the block has of it
  int slot;                            // see Keep in block_piece.cuh
  uint8_t objectives[kMaxObjectives];  // ascending
};

struct Units {
  int64_t begin, end;
};

// What a block works on.
struct Piece {
  int64_t begin, end;  // on the line
  int first, last;     // descriptors [first, last) have a part in it

  // Those of its units that begin in the piece.
  GMD_BOTH Units units_of(const Descriptor& d) const {
    const int64_t cost = d.cost();
    const int64_t skipped = begin > d.begin ? (begin - d.begin + cost - 1) / cost : 0;
    const int64_t stop = (end - d.begin + cost - 1) / cost;
    return {skipped, stop < d.units() ? stop : d.units()};
  }
};

// The blocks with a part of a group: their partials are neighbours.
struct Span {
  int first, count;
};
constexpr int kSpans = 32;  // that a block finds before it begins: one for each lane of a warp

// What a block has in shared memory besides.
struct alignas(16) BlockState {
  Piece piece;
  Span spans[kSpans];  // of the groups from that of the piece's first parameter on
  int first_group;
  uint32_t launches;  // of launch_surgery on the same workspace, before this one
};

// Block b of B < 2^16 has the units that begin in [piece_begin(b), piece_begin(b + 1)) of a line.
GMD_BOTH constexpr int64_t piece_begin(int64_t length, int64_t blocks, int64_t block) {
  const auto rest = static_cast<uint32_t>(length % blocks);  // a division by 64 bits takes several times as long
  return length / blocks * block + rest * static_cast<uint32_t>(block) / static_cast<uint32_t>(blocks);
}

// The block whose piece contains a place on the line.
GMD_BOTH constexpr int64_t piece_of(int64_t length, int64_t blocks, int64_t place) {
  int64_t block = static_cast<int64_t>(static_cast<double>(place) / static_cast<double>(length) * blocks);
  while (piece_begin(length, blocks, block) > place) --block;
  while (piece_begin(length, blocks, block + 1) <= place) ++block;
  return block;
}

}  // namespace gmd::cuda
