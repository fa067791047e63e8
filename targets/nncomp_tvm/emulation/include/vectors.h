// Vector types as CUDA has them, with its alignments, and the functions that make them.
#pragma once

#include <stdint.h>

// A vector whose elements are `T`; CUDA aligns vectors of 2 and 4 to their size, up to 16 bytes.
#define NNCOMP_VECTORS(T, name, bytes)                                                                    \
  struct name##1 {                                                                                        \
    T x;                                                                                                  \
  };                                                                                                      \
  struct __attribute__((aligned(2 * bytes))) name##2 {                                                    \
    T x, y;                                                                                               \
  };                                                                                                      \
  struct name##3 {                                                                                        \
    T x, y, z;                                                                                            \
  };                                                                                                      \
  struct __attribute__((aligned(4 * bytes > 16 ? 16 : 4 * bytes))) name##4 {                              \
    T x, y, z, w;                                                                                         \
  };                                                                                                      \
  inline name##1 make_##name##1(T x) { return {x}; }                                                      \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                              \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                      \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

NNCOMP_VECTORS(signed char, char, 1)
NNCOMP_VECTORS(unsigned char, uchar, 1)
NNCOMP_VECTORS(short, short, 2)
NNCOMP_VECTORS(unsigned short, ushort, 2)
NNCOMP_VECTORS(int, int, 4)
NNCOMP_VECTORS(unsigned, uint, 4)
NNCOMP_VECTORS(long, long, 8)
NNCOMP_VECTORS(unsigned long, ulong, 8)
NNCOMP_VECTORS(long long, longlong, 8)
NNCOMP_VECTORS(unsigned long long, ulonglong, 8)
NNCOMP_VECTORS(float, float, 4)
NNCOMP_VECTORS(double, double, 8)
