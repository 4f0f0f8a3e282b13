// What ../functions.h is written in, on vectors. Denormals count as zero; NaN and Inf as in C.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr bool is_float = sizeof(real) == 4;
constexpr int mantissa_bits = is_float ? 23 : 52;
constexpr integer exponent_bias = is_float ? 127 : 1023;
constexpr real largest_number = real(is_float ? 3.4028234663852886e38 : 1.7976931348623157e308);
constexpr real smallest_normal = real(is_float ? 1.1754943508222875e-38 : 2.2250738585072014e-308);
constexpr real infinity = real(__builtin_inf());

INLINE vec horner(vec, double c) { return set(real(c)); }
template <class... C>
INLINE vec horner(vec x, double c, C... higher) {  // c + x (higher ...)
  return fma(x, horner(x, higher...), set(real(c)));
}

// a 2^k for whole k, rounded once even where 2^k alone is out of range
INLINE vec scale_by_power(vec a, vec k) {
#if defined(__AVX512F__)
  return vec(_mm512_maskz_scalef_ps(__mmask16(-1), __m512(a), __m512(k)));
#else
  constexpr real rounder = real(is_float ? 12582912.0 : 6755399441055744.0);  // 1.5 2^mantissa_bits: its last bit stands for 1
  const ivec whole = ivec(k + set(rounder)) - ivec(set(rounder)), half = whole >> 1;
  return a * vec((half + exponent_bias) << mantissa_bits) * vec((whole - half + exponent_bias) << mantissa_bits);
#endif
}

INLINE vec nearest_whole(vec a) {
  constexpr real rounder = real(is_float ? 12582912.0 : 6755399441055744.0);
  return a + set(rounder) - set(rounder);
}

// |m| with the sign of s
INLINE vec with_sign(vec m, vec s) {
  constexpr integer sign = integer(1) << (8 * sizeof(integer) - 1);
  return vec((ivec(m) & ~sign) | (ivec(s) & sign));
}

// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
struct Factors {
  vec f, k;
};

INLINE Factors factors_of(vec x) {
  constexpr integer one = exponent_bias << mantissa_bits;
  constexpr integer sqrt_half = integer(is_float ? 0x3f3504f3 : 0x3fe6a09e667f3bcd);
  const ivec bits = ivec(min(x, set(largest_number))) + (one - sqrt_half);  // larger ones and NaN would overflow
  return {vec((bits & ((integer(1) << mantissa_bits) - 1)) + sqrt_half) - set(1),
          __builtin_convertvector((bits >> mantissa_bits) - exponent_bias, vec)};
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE

#include "../functions.h"
