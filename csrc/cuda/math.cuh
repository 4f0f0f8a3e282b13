// What ../functions.h is written in, for one float: there, and in cpu/math.h on vectors, every step is the same.
#pragma once
#include "launch.cuh"

#define INLINE __device__ __forceinline__

namespace fastnn::FASTNN_TABLE {
namespace {

using vec = float;

constexpr bool is_float = true;
constexpr float smallest_normal = 1.1754943508222875e-38f, largest_number = 3.4028234663852886e38f, infinity = __builtin_inff();

INLINE float set(float a) { return a; }
INLINE float zero() { return 0; }
INLINE float select(bool condition, float a, float b) { return condition ? a : b; }
INLINE float fma(float a, float b, float c) { return fmaf(a, b, c); }
INLINE float max(float a, float b) { return a > b ? a : b; }
INLINE float min(float a, float b) { return a < b ? a : b; }
INLINE float with_sign(float m, float s) { return float_of((bits_of(m) & 0x7fffffffu) | (bits_of(s) & 0x80000000u)); }

INLINE float sqrt(float a) { return sqrtf(a); }

INLINE float horner(float, double c) { return float(c); }
template <class... C>
INLINE float horner(float x, double c, C... higher) {  // c + x (higher ...)
  return fmaf(x, horner(x, higher...), float(c));
}

// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
struct Factors {
  float f, k;
};

INLINE Factors factors_of(float x) {
  constexpr uint32_t one = 127u << 23, sqrt_half = 0x3f3504f3u;
  const uint32_t bits = bits_of(min(x, largest_number)) + (one - sqrt_half);
  return {float_of((bits & 0x7fffffu) + sqrt_half) - 1, float((int(bits) >> 23) - 127)};
}

constexpr float whole_rounder = 12582912;  // 1.5 2^23: its last bit stands for 1
INLINE float nearest_whole(float a) { return a + whole_rounder - whole_rounder; }

// a 2^k for whole k, rounded once even where 2^k alone is out of range
INLINE float scale_by_power(float a, float k) {
  const int whole = int(bits_of(k + whole_rounder) - bits_of(whole_rounder)), half = whole >> 1;
  return a * float_of(uint32_t(half + 127) << 23) * float_of(uint32_t(whole - half + 127) << 23);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE

#include "../functions.h"
