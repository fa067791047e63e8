#include "cuda_on_cpu.h"  // has all of it
