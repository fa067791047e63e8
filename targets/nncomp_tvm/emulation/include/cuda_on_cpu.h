// CUDA C++ as a C++ compiler for CPUs understands it: include this, then the source as it is.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <initializer_list>
#include <limits>
#include <type_traits>

#include "launch.h"

#define __CUDA_ARCH__ NNCOMP_CUDA_ARCH
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define alignas(n) __attribute__((aligned(n)))  // may stand between __shared__ and the type, which C++'s own may not
