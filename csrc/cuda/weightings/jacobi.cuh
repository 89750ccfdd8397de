// Eigenvectors of a symmetric matrix by Jacobi's method, T / 2 rotations at a time.
#pragma once

#include "block_math.cuh"

namespace gmd::cuda {

constexpr int kSweeps = 12;            // five to eight are taken
constexpr double kNegligible = 1e-17;  // beside the largest entry: turning by it changes nothing
GMD_BOTH constexpr int even(int t) { return t + t % 2; }

// The matrix, [n, n] with n even, becomes diagonal, V the eigenvectors as columns. An odd matrix has a row and a column
// of zeros besides, which stay as they are.
struct Jacobi {
  Matrix matrix, vectors;
  double *cosines, *sines;  // [n / 2], of the rotations of a round
  int n;

  struct Pair {
    int p, q;
  };

  // The pairs of a round: everybody meets everybody once in n - 1 rounds.
  __device__ Pair pair(int round, int i) const {
    const int players = n - 1;  // but for the last, who stays
    if (i == 0) return {players, round};
    const int up = round + i, down = round - i;
    return {up < players ? up : up - players, down >= 0 ? down : down + players};
  }

  // Finds the rotations that make the entries of the round's pairs zero; whether any of these entries matters.
  __device__ bool find_rotations(int round, double negligible) const {
    bool matters = false;
    for_each(n / 2, [&](int i) {
      const auto [p, q] = pair(round, i);
      const double gap = matrix(q, q) - matrix(p, p), twice = 2 * matrix(p, q);
      const double square = gap * gap + twice * twice;
      const bool turns = twice != 0 && square > 0;
      const double inverse = turns ? inverse_root(square) : 0;
      const double half = turns ? 0.5 + 0.5 * fabs(gap) * inverse : 1;  // the cosine's square
      const double inverse_cosine = inverse_root(half);
      cosines[i] = half * inverse_cosine;
      sines[i] = (gap < 0 ? -0.5 : 0.5) * twice * inverse * inverse_cosine;
      matters = fabs(twice) > 2 * negligible;
    });
    __syncthreads();
    return matters;
  }

  // The four entries where the rows of pair a and the columns of pair b meet, and their mirror image.
  __device__ void turn_entries(int round, int a, int b) const {
    const auto [p, q] = pair(round, a);
    const auto [r, s] = pair(round, b);
    const double ca = cosines[a], sa = sines[a], cb = cosines[b], sb = sines[b];
    const double pr = matrix(p, r), ps = matrix(p, s), qr = matrix(q, r), qs = matrix(q, s);
    const double upper_r = ca * pr - sa * qr, upper_s = ca * ps - sa * qs;
    const double lower_r = sa * pr + ca * qr, lower_s = sa * ps + ca * qs;
    const double across = a == b ? 0 : sb * upper_r + cb * upper_s, back = a == b ? 0 : cb * lower_r - sb * lower_s;
    matrix(p, r) = matrix(r, p) = cb * upper_r - sb * upper_s;
    matrix(q, s) = matrix(s, q) = sb * lower_r + cb * lower_s;
    matrix(p, s) = matrix(s, p) = across;
    matrix(q, r) = matrix(r, q) = back;
  }

  __device__ void turn(int round) const {
    for_entries(n / 2, n / 2, [&](int a, int b) {
      if (b <= a) turn_entries(round, a, b);
    });
    for_entries(n, n / 2, [&](int i, int b) {
      const auto [p, q] = pair(round, b);
      const double at_p = vectors(i, p), at_q = vectors(i, q);
      vectors(i, p) = cosines[b] * at_p - sines[b] * at_q;
      vectors(i, q) = sines[b] * at_p + cosines[b] * at_q;
    });
    __syncthreads();
  }

  // largest: of the matrix's entries, on every thread
  __device__ void operator()(double largest) const {
    for_entries(n, n, [&](int i, int j) { vectors(i, j) = i == j; });
    bool matters = true;
    for (int sweep = 0; sweep < kSweeps && matters; ++sweep) {
      matters = false;
      for (int round = 0; round < n - 1; ++round) {
        matters |= find_rotations(round, kNegligible * largest);
        turn(round);
      }
      matters = __syncthreads_or(matters);
    }
    __syncthreads();
  }
};

}  // namespace gmd::cuda
