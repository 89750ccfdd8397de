// The launches that find weights, as functions that Python can call (tests/helpers/emulated_weightings.py).
#include "weightings/weightings.h"

using namespace gmd::cuda;

extern "C" {

int run_spectral(const double* grams, int64_t count, int t, int method, const double* preference, double* weights) {
  return launch_spectral({grams, count, t}, static_cast<Spectral>(method), preference, weights, nullptr);
}

int run_program(const double* grams, int64_t count, int t, int program, const double* preference, double max_norm,
                double* weights) {
  return launch_program({grams, count, t}, static_cast<Program>(program), preference, max_norm, weights, nullptr);
}

int run_upgrad(const double* grams, int64_t count, int t, const double* preference, double* shares, double* weights) {
  return launch_upgrad({grams, count, t}, preference, shares, weights, nullptr);
}

int run_cagrad(const double* grams, int64_t count, int t, double c, double* weights) {
  return launch_cagrad({grams, count, t}, c, weights, nullptr);
}

int run_pcd(const double* grams, int64_t count, int t, int primary, double tau, const double* shares, double* state,
            double* weights) {
  return launch_pcd({grams, count, t}, {primary, tau, shares, state}, weights, nullptr);
}

int run_fairgrad(const double* grams, int64_t count, int t, double alpha, double* weights) {
  return launch_fairgrad({grams, count, t}, alpha, weights, nullptr);
}

int run_gradvac(const double* grams, int64_t count, int t, const int64_t* order, double beta, double* cosines,
                double* weights) {
  return launch_gradvac({grams, count, t}, order, beta, cosines, weights, nullptr);
}

}  // extern "C"
