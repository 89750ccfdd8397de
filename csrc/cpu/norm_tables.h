// Constants of the norm's kernels: from statistics and affine rows to one table of a line's period each.
#pragma once

#include <vector>

#include "norm.h"

namespace gmd::cpu {

template <class Scalar>
struct Affine {
  const Scalar *weight, *bias;  // [R, C]
  const int64_t* rows;          // [n], each sample's row of them
  const Scalar *mean, *rstd;    // [n, G]

  int64_t at(const Lines& lines, int64_t sample, int64_t channel) const {
    return rows[sample] * lines.channels + channel;
  }
};

// How a channel's elements come into the gradient beside the gradient of their own: slope * (x - mean) + offset.
template <class Scalar>
struct Share {
  Scalar slope, offset;
};

template <class Scalar>
class Tables {
 public:
  Tables(const Lines& lines, const Affine<Scalar>& affine, const Share<Scalar>* shares /*[n, G], or none*/)
      : lines_(lines),
        affine_(affine),
        shares_(shares),
        count_(shares ? 5 : 3),
        constants_(lines.per_line * count_),
        tables_(lines.period * count_) {}

  // [3 or 5][period]: mean, scale, bias and, with shares, slope, offset. Runs of one line have the same ones.
  const Scalar* of(const Run& run) {
    if (run.sample == sample_ && run.first_channel == channel_) return tables_.data();
    sample_ = run.sample, channel_ = run.first_channel;
    for (int64_t c = 0; c < lines_.per_line; ++c) {
      const int64_t group = sample_ * lines_.groups + lines_.group_of(channel_ + c);
      const int64_t row = affine_.at(lines_, sample_, channel_ + c);
      Scalar* constants = &constants_[c * count_];
      constants[0] = affine_.mean[group];
      constants[1] = affine_.rstd[group] * affine_.weight[row];
      constants[2] = affine_.bias[row];
      if (shares_) constants[3] = shares_[group].slope, constants[4] = shares_[group].offset;
    }
    lines_.each_place([&](int64_t place, int64_t channel) {
      for (int t = 0; t < count_; ++t) tables_[t * lines_.period + place] = constants_[channel * count_ + t];
    });
    return tables_.data();
  }

 private:
  const Lines& lines_;
  const Affine<Scalar>& affine_;
  const Share<Scalar>* shares_;
  int count_;
  int64_t sample_ = -1, channel_ = -1;
  std::vector<Scalar> constants_, tables_;  // [per_line][count], [count][period]
};

// Two sums at each place of the period, and from there those of each channel.
class Sums {
 public:
  explicit Sums(const Lines& lines) : of_channel(2 * lines.per_line), lines_(lines), places_(2 * lines.period) {}

  // add(places [2][period]) adds to zeros.
  template <class Add>
  void take(Add add) {
    std::fill(places_.begin(), places_.end(), 0.0);
    std::fill(of_channel.begin(), of_channel.end(), 0.0);
    add(places_.data());
    lines_.each_place([&](int64_t place, int64_t channel) {
      of_channel[2 * channel] += places_[place];
      of_channel[2 * channel + 1] += places_[lines_.period + place];
    });
  }

  std::vector<double> of_channel;  // [per_line][2]

 private:
  const Lines& lines_;
  std::vector<double> places_;
};

}  // namespace gmd::cpu
