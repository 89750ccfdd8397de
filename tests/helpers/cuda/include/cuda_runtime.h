// Stands in for CUDA's header of this name where the kernels are compiled for the emulator.
#include "../emulator.h"
