#include "kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace gmd::cpu {
namespace {

const Kernels& choose() {
  const char* variable = std::getenv("GMD_CPU_ISA");
  const std::string most = variable ? variable : "avx512";
  if (most != "generic" && most != "avx2" && most != "avx512") {
    throw std::invalid_argument("GMD_CPU_ISA: expected generic, avx2 or avx512, got " + most);
  }
#if defined(__x86_64__)
  if (most == "avx512" && __builtin_cpu_supports("avx512f")) return avx512_kernels;
  // who has AVX2 has F16C, which some compilers cannot ask for
  if (most != "generic" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_kernels;
#endif
  return generic_kernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace gmd::cpu
