// exp, log and the logistic function on vectors: exp and log within 1.01 ulp, silu within 3. Denormals count as zero; NaN and Inf as in C.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr bool is_float = sizeof(real) == 4;
constexpr int mantissa_bits = is_float ? 23 : 52;
constexpr integer exponent_bias = is_float ? 127 : 1023;
constexpr real largest_number = real(is_float ? 3.4028234663852886e38 : 1.7976931348623157e308);
constexpr real smallest_normal = real(is_float ? 1.1754943508222875e-38 : 2.2250738585072014e-308);
constexpr real exp_lowest = real(is_float ? -104 : -746), exp_highest = real(is_float ? 89 : 710);  // beyond: 0 and infinity
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

// e^x = p 2^k, so that a product with e^x is rounded once and neither overflows nor vanishes on the way.
struct Exponential {
  vec p, k;
};

// x = k ln 2 + r; ln 2 in two parts, the first short enough that k times it is exact (Cody and Waite, 1980)
INLINE Exponential exponential(vec x) {
  constexpr real ln2_high = real(is_float ? 0.693359375 : 6.93145751953125e-1);
  constexpr real ln2_low = real(is_float ? -2.12194440054690583e-4 : 1.42860682030941723212e-6);
  x = max(set(exp_lowest), min(set(exp_highest), x));
  const vec k = nearest_whole(x * set(real(1.44269504088896341)));
  const vec r = fma(k, set(-ln2_low), fma(k, set(-ln2_high), x));
  vec tail;                // (e^r - 1 - r) / r^2
  if constexpr (is_float)  // Cephes, expf.c
    tail = horner(r, 5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4);
  else  // Taylor's, whose next term is 4e-18 at r = ln 2 / 2
    tail = horner(r, 1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320., 1 / 362880., 1 / 3628800., 1 / 39916800.,
                  1 / 479001600., 1 / 6227020800.);
  return {fma(r * r, tail, r) + set(1), k};
}

INLINE vec exp(vec x) {
  const Exponential e = exponential(x);
  return scale_by_power(e.p, e.k);
}

// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); s = f / (2 + f), log(1 + f) = 2 atanh(s) (fdlibm, e_log.c and e_logf.c)
INLINE vec log(vec x) {
  constexpr integer one = exponent_bias << mantissa_bits;
  constexpr integer sqrt_half = integer(is_float ? 0x3f3504f3 : 0x3fe6a09e667f3bcd);
  constexpr real ln2_high = real(is_float ? 6.9313812256e-01 : 6.93147180369123816490e-01);
  constexpr real ln2_low = real(is_float ? 9.0580006145e-06 : 1.90821492927058770002e-10);
  const ivec bits = ivec(min(x, set(largest_number))) + (one - sqrt_half);  // larger ones and NaN would overflow; the last line sets them
  const vec k = __builtin_convertvector((bits >> mantissa_bits) - exponent_bias, vec);
  const vec f = vec((bits & ((integer(1) << mantissa_bits) - 1)) + sqrt_half) - set(1);
  const vec s = f / (f + set(2)), z = s * s, half_square = set(real(0.5)) * f * f;
  vec series;
  if constexpr (is_float)
    series = z * horner(z, 0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841);
  else
    series = z * horner(z, 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
                        1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01);
  vec y = s * (half_square + series) + k * set(ln2_low) - half_square + f + k * set(ln2_high);
  y = select(x < set(smallest_normal), set(-infinity), y);
  y = select(x <= set(-smallest_normal), set(real(__builtin_nan(""))), y);
  return select(x <= set(largest_number), y, x);
}

// e^-|x| shared by the logistic function and its complement: logistic(x) = 1 / (1 + e^-x)
struct Logistic {
  vec value, complement;  // logistic(x), 1 - logistic(x)
};

INLINE vec absolute(vec x) { return max(x, -x); }

INLINE Logistic logistic(vec x) {
  const vec e = exp(-absolute(x)), larger_part = set(1) / (set(1) + e), smaller_part = e * larger_part;
  return {select(x < zero(), smaller_part, larger_part), select(x < zero(), larger_part, smaller_part)};
}

// x logistic(x), scaled last so that it holds out to where its own value vanishes
INLINE vec silu(vec x) {
  const Exponential e = exponential(-absolute(x));
  const vec below = select(x < set(exp_lowest), x * zero(), scale_by_power(x * e.p, e.k));
  return select(x < zero(), below, x) / (set(1) + scale_by_power(e.p, e.k));
}

INLINE vec silu_slope(vec x) {
  const Logistic s = logistic(x);
  return s.value * fma(x, s.complement, set(1));
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
