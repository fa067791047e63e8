// Functions that CUDA has and C++ has not: maxima and minima, dot products of bytes, warp functions, atomics, the
// approximate functions, which are exact here, and conversions with a named rounding.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#include "half.h"
#include "threads.h"

// As on a GPU, NaN loses against a number.
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
template <typename A, typename B>
using Integers = std::enable_if_t<std::is_integral<A>::value && std::is_integral<B>::value, std::common_type_t<A, B>>;
template <typename A, typename B>
inline Integers<A, B> max(A a, B b) {
  return Integers<A, B>(a) < Integers<A, B>(b) ? b : a;
}
template <typename A, typename B>
inline Integers<A, B> min(A a, B b) {
  return Integers<A, B>(b) < Integers<A, B>(a) ? b : a;
}

template <typename T>
inline T __ldg(const T* place) {
  return *place;
}

namespace nncomp {

template <typename A, typename B>
inline int dot_bytes(const void* a, const void* b, int c) {
  A x[4];
  B y[4];
  memcpy(x, a, 4);
  memcpy(y, b, 4);
  return c + x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3];
}

template <typename To, typename From>
inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace nncomp

inline int __dp4a(int a, int b, int c) { return nncomp::dot_bytes<int8_t, int8_t>(&a, &b, c); }
inline int __dp4a(char4 a, char4 b, int c) { return nncomp::dot_bytes<int8_t, int8_t>(&a, &b, c); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) { return nncomp::dot_bytes<uint8_t, uint8_t>(&a, &b, c); }
inline unsigned __dp4a(uchar4 a, uchar4 b, unsigned c) { return nncomp::dot_bytes<uint8_t, uint8_t>(&a, &b, c); }
// What the instruction dp4a has and CUDA's function has not: one side signed, the other not.
inline int nncomp_dp4a_us(unsigned a, int b, int c) { return nncomp::dot_bytes<uint8_t, int8_t>(&a, &b, c); }
inline int nncomp_dp4a_su(int a, unsigned b, int c) { return nncomp::dot_bytes<int8_t, uint8_t>(&a, &b, c); }

// Warp functions.
#define __activemask() ::nncomp::block.converged(__LINE__)
#define __syncwarp(...) ::nncomp::warp_barrier(__LINE__, ##__VA_ARGS__)
#define __shfl_sync(mask, value, ...) ::nncomp::shuffled<::nncomp::From>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...) ::nncomp::shuffled<::nncomp::Up>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_down_sync(mask, value, ...) ::nncomp::shuffled<::nncomp::Down>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...) ::nncomp::shuffled<::nncomp::Xor>(__LINE__, mask, value, __VA_ARGS__)
#define __ballot_sync(mask, yes) ::nncomp::ballot(__LINE__, mask, yes)
#define __any_sync(mask, yes) (::nncomp::ballot(__LINE__, mask, yes) != 0)
#define __all_sync(mask, yes) (::nncomp::ballot(__LINE__, mask, !(yes)) == 0)
#define __reduce_add_sync(mask, value) ::nncomp::reduced(__LINE__, mask, value)

namespace nncomp {

// Which lane a lane reads from, of a segment of `width` lanes; outside of it, a lane reads itself (CUDA C++
// Programming Guide, "Warp Shuffle Functions").
struct From {
  static int lane(int, int first, int width, int by) { return first + (by & (width - 1)); }
};
struct Up {
  static int lane(int self, int first, int, int by) { return self - by < first ? self : self - by; }
};
struct Down {
  static int lane(int self, int first, int width, int by) { return self + by >= first + width ? self : self + by; }
};
struct Xor {
  static int lane(int self, int first, int width, int by) {
    return (self ^ by) >= first + width ? self : self ^ by;
  }
};

template <typename Rule, typename T>
inline T shuffled(int line, unsigned mask, T value, int by, int width = warpSize) {
  block.exchange(mask, value, line);
  int self = block.lane();
  return block.seen<T>(Rule::lane(self, self & ~(width - 1), width, by));
}

inline void warp_barrier(int line, unsigned mask = 0xffffffffu) { block.exchange(mask, 0, line); }

inline unsigned ballot(int line, unsigned mask, bool yes) {
  block.exchange(mask, int(yes), line);
  unsigned found = 0;
  for (unsigned lane = 0; lane < kLanes; lane++) found |= unsigned(block.seen<int>(lane) == 1) << lane;
  return found;
}

template <typename T>
inline T reduced(int line, unsigned mask, T value) {
  block.exchange(mask, value, line);
  T sum = 0;
  for (unsigned lane = 0; lane < kLanes; lane++) {
    if (block.took_part(lane)) sum += block.seen<T>(lane);
  }
  return sum;
}

}  // namespace nncomp

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __trap() { nncomp::block.fail("a trap"); }

// Threads take turns, so these are what they say.
template <typename T>
inline T atomicAdd(T* place, T value) {
  T before = *place;
  *place = before + value;
  return before;
}
template <typename T>
inline T atomicMax(T* place, T value) {
  T before = *place;
  *place = max(before, value);
  return before;
}
template <typename T>
inline T atomicMin(T* place, T value) {
  T before = *place;
  *place = min(before, value);
  return before;
}
template <typename T>
inline T atomicExch(T* place, T value) {
  T before = *place;
  *place = value;
  return before;
}
template <typename T>
inline T atomicCAS(T* place, T expected, T value) {
  T before = *place;
  if (before == expected) *place = value;
  return before;
}

// Functions of one number.
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
#if !defined(__GLIBC__)
inline float exp10f(float x) { return powf(10.0f, x); }
#endif
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / sqrt(double(x))); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) {
  volatile float product = x * y;  // never part of a fused multiply and add
  return product;
}
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }

// Conversions: of what does not fit, a GPU gives the nearest that does, and of NaN zero.
namespace nncomp {
template <typename To>
inline To converted(double value) {
  if (value != value) return 0;
  if (value <= double(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (value >= double(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return To(value);
}
}  // namespace nncomp
inline int __float2int_rn(float x) { return nncomp::converted<int>(nearbyint(double(x))); }
inline int __float2int_rz(float x) { return nncomp::converted<int>(trunc(double(x))); }
inline int __float2int_rd(float x) { return nncomp::converted<int>(floor(double(x))); }
inline int __float2int_ru(float x) { return nncomp::converted<int>(ceil(double(x))); }
inline unsigned __float2uint_rn(float x) { return nncomp::converted<unsigned>(nearbyint(double(x))); }
inline unsigned __float2uint_rz(float x) { return nncomp::converted<unsigned>(trunc(double(x))); }
inline long long __float2ll_rn(float x) { return nncomp::converted<long long>(nearbyint(double(x))); }
inline int __double2int_rn(double x) { return nncomp::converted<int>(nearbyint(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __int_as_float(int bits) { return nncomp::same_bits<float>(bits); }
inline int __float_as_int(float value) { return nncomp::same_bits<int>(value); }
inline float __uint_as_float(unsigned bits) { return nncomp::same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return nncomp::same_bits<unsigned>(value); }
inline double __longlong_as_double(long long bits) { return nncomp::same_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return nncomp::same_bits<long long>(value); }

// Bits.
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
  unsigned char from[8], to[4];
  memcpy(from, &a, 4);
  memcpy(from + 4, &b, 4);
  for (int i = 0; i < 4; i++) to[i] = from[select >> 4 * i & 7];
  unsigned value;
  memcpy(&value, to, 4);
  return value;
}
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __mul24(int a, int b) { return a * b; }
