// 16-bit floats: `half` and `__nv_bfloat16`, with the operators and functions of cuda_fp16.h and cuda_bf16.h. Each
// operation is done in float and rounded once, which for + - * / and square roots is the exact result rounded.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace nncomp {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// A right shift that rounds half to even.
inline uint32_t rounded_shift(uint32_t value, unsigned count) {
  uint32_t half = 1u << (count - 1), rest = value & ((1u << count) - 1), whole = value >> count;
  return whole + (rest > half || (rest == half && (whole & 1)));
}

inline uint16_t half_bits(float value) {
#if defined(__F16C__)
  return _cvtss_sh(value, 0);
#else
  uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00 | (size >> 13 & 0x1ff);
  if (size >= 0x47800000) return sign | 0x7c00;
  if (size >= 0x38800000) return sign + rounded_shift(size - 0x38000000, 13);
  if (size < 0x33000000) return sign;
  return sign | rounded_shift((size & 0x7fffff) | 0x800000, 126 - (size >> 23));
#endif
}

inline float half_value(uint16_t bits) {
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  uint32_t sign = (bits & 0x8000u) << 16, size = bits & 0x7fffu;
  if (size >= 0x7c00) return float_of(sign | 0x7f800000 | (size & 0x3ff) << 13);
  if (size >= 0x400) return float_of(sign | ((size << 13) + 0x38000000));
  float small = size * 0x1p-24f;
  return sign ? -small : small;
#endif
}

inline uint16_t bfloat_bits(float value) {
  uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return rounded_shift(bits, 16);
}

inline float bfloat_value(uint16_t bits) { return float_of(uint32_t(bits) << 16); }

}  // namespace nncomp

#define NNCOMP_FLOAT16(name, pair, to_bits, to_value)                                                          \
  struct name {                                                                                                \
    uint16_t __x;                                                                                              \
    name() = default;                                                                                          \
    template <typename T, typename = std::enable_if_t<std::is_arithmetic<T>::value>>                           \
    name(T value) : __x(nncomp::to_bits(float(value))) {}                                                      \
    operator float() const { return nncomp::to_value(__x); }                                                   \
    name(const name&) = default;                                                                               \
    name(const volatile name& b) : __x(b.__x) {}                                                               \
    name& operator=(const name&) = default;                                                                    \
    volatile name& operator=(const name& b) volatile {                                                         \
      __x = b.__x;                                                                                             \
      return *this;                                                                                            \
    }                                                                                                          \
    name& operator+=(name b) { return *this = name(float(*this) + float(b)); }                                 \
    name& operator-=(name b) { return *this = name(float(*this) - float(b)); }                                 \
    name& operator*=(name b) { return *this = name(float(*this) * float(b)); }                                 \
    name& operator/=(name b) { return *this = name(float(*this) / float(b)); }                                 \
  };                                                                                                           \
  inline name operator+(name a, name b) { return name(float(a) + float(b)); }                                  \
  inline name operator-(name a, name b) { return name(float(a) - float(b)); }                                  \
  inline name operator*(name a, name b) { return name(float(a) * float(b)); }                                  \
  inline name operator/(name a, name b) { return name(float(a) / float(b)); }                                  \
  inline name operator-(name a) { return name(-float(a)); }                                                    \
  inline bool operator==(name a, name b) { return float(a) == float(b); }                                      \
  inline bool operator!=(name a, name b) { return float(a) != float(b); }                                      \
  inline bool operator<(name a, name b) { return float(a) < float(b); }                                        \
  inline bool operator>(name a, name b) { return float(a) > float(b); }                                        \
  inline bool operator<=(name a, name b) { return float(a) <= float(b); }                                      \
  inline bool operator>=(name a, name b) { return float(a) >= float(b); }                                      \
  inline name __hadd(name a, name b) { return a + b; }                                                         \
  inline name __hsub(name a, name b) { return a - b; }                                                         \
  inline name __hmul(name a, name b) { return a * b; }                                                         \
  inline name __hdiv(name a, name b) { return a / b; }                                                         \
  inline name __hneg(name a) { return -a; }                                                                    \
  inline name __habs(name a) { return name(fabsf(a)); }                                                        \
  inline name __hfma(name a, name b, name c) { return name(double(float(a)) * float(b) + float(c)); }          \
  inline name __hmax(name a, name b) { return name(fmaxf(a, b)); }                                             \
  inline name __hmin(name a, name b) { return name(fminf(a, b)); }                                             \
  inline bool __heq(name a, name b) { return a == b; }                                                         \
  inline bool __hne(name a, name b) { return a != b; }                                                         \
  inline bool __hlt(name a, name b) { return a < b; }                                                          \
  inline bool __hgt(name a, name b) { return a > b; }                                                          \
  inline bool __hle(name a, name b) { return a <= b; }                                                         \
  inline bool __hge(name a, name b) { return a >= b; }                                                         \
  inline bool __hisnan(name a) { return isnan(float(a)); }                                                     \
  inline int __hisinf(name a) { return isinf(float(a)); }                                                      \
  inline name hexp(name a) { return name(expf(a)); }                                                           \
  inline name hexp2(name a) { return name(exp2f(a)); }                                                         \
  inline name hexp10(name a) { return name(powf(10.0f, a)); }                                                  \
  inline name hlog(name a) { return name(logf(a)); }                                                           \
  inline name hlog2(name a) { return name(log2f(a)); }                                                         \
  inline name hlog10(name a) { return name(log10f(a)); }                                                       \
  inline name hsqrt(name a) { return name(sqrtf(a)); }                                                         \
  inline name hrsqrt(name a) { return name(1.0f / sqrtf(a)); }                                                 \
  inline name hrcp(name a) { return name(1.0f / float(a)); }                                                   \
  inline name hsin(name a) { return name(sinf(a)); }                                                           \
  inline name hcos(name a) { return name(cosf(a)); }                                                           \
  inline name htanh(name a) { return name(tanhf(a)); }                                                         \
  inline name hfloor(name a) { return name(floorf(a)); }                                                       \
  inline name hceil(name a) { return name(ceilf(a)); }                                                         \
  inline name htrunc(name a) { return name(truncf(a)); }                                                       \
  inline name hrint(name a) { return name(nearbyintf(a)); }                                                    \
  struct __attribute__((aligned(4))) pair {                                                                    \
    name x, y;                                                                                                 \
    pair() = default;                                                                                          \
    pair(name x, name y) : x(x), y(y) {}                                                                       \
  };                                                                                                           \
  inline pair operator+(pair a, pair b) { return {a.x + b.x, a.y + b.y}; }                                     \
  inline pair operator-(pair a, pair b) { return {a.x - b.x, a.y - b.y}; }                                     \
  inline pair operator*(pair a, pair b) { return {a.x * b.x, a.y * b.y}; }                                     \
  inline pair operator/(pair a, pair b) { return {a.x / b.x, a.y / b.y}; }                                     \
  inline pair __hadd2(pair a, pair b) { return a + b; }                                                        \
  inline pair __hsub2(pair a, pair b) { return a - b; }                                                        \
  inline pair __hmul2(pair a, pair b) { return a * b; }                                                        \
  inline pair __hfma2(pair a, pair b, pair c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }       \
  inline pair __hmax2(pair a, pair b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                         \
  inline pair __hmin2(pair a, pair b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }

NNCOMP_FLOAT16(__half, __half2, half_bits, half_value)
NNCOMP_FLOAT16(__nv_bfloat16, __nv_bfloat162, bfloat_bits, bfloat_value)

using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline half2 make_half2(half x, half y) { return {x, y}; }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half2 __half2half2(half x) { return {x, x}; }
inline half __low2half(half2 a) { return a.x; }
inline half __high2half(half2 a) { return a.y; }
inline float __half2float(half a) { return a; }
inline half __float2half(float a) { return half(a); }
inline half __float2half_rn(float a) { return half(a); }
inline half2 __float2half2_rn(float a) { return {half(a), half(a)}; }
inline half2 __floats2half2_rn(float a, float b) { return {half(a), half(b)}; }
inline float __low2float(half2 a) { return a.x; }
inline float __high2float(half2 a) { return a.y; }
inline unsigned short __half_as_ushort(half a) { return a.__x; }
inline half __ushort_as_half(unsigned short bits) {
  half value;
  value.__x = bits;
  return value;
}

inline nv_bfloat162 make_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
inline nv_bfloat162 __halves2bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
inline float __bfloat162float(nv_bfloat16 a) { return a; }
inline nv_bfloat16 __float2bfloat16(float a) { return nv_bfloat16(a); }
inline nv_bfloat16 __float2bfloat16_rn(float a) { return nv_bfloat16(a); }
inline unsigned short __bfloat16_as_ushort(nv_bfloat16 a) { return a.__x; }
inline nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  nv_bfloat16 value;
  value.__x = bits;
  return value;
}
