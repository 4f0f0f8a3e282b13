// Functions of one number, written once for CPU and CUDA: the same steps, so the same bits wherever multiply-adds are fused.
// Included at the end of cpu/math.h (vec: a vector) and cuda/math.cuh (vec: a float), which define set, zero, select, fma, max, min
// (b where unordered), with_sign, horner, factors_of, nearest_whole and scale_by_power. Denormals count as zero; NaN and Inf as in C.
// exp and log within 1.01 ulp, the logistic function, silu, tanh, e^x - 1 and softplus within 3, gelu within 4.
#pragma once

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE vec absolute(vec x) { return with_sign(x, zero()); }

// --- exponentials

constexpr real exp_lowest = real(is_float ? -104 : -746), exp_highest = real(is_float ? 89 : 710);  // beyond: 0 and infinity

// e^x = (1 + rest) 2^k with |rest| < 0.42
struct Reduced {
  vec rest, k;
};

// e^(x + low), low being small beside 1. x = k ln 2 + r; ln 2 in two parts, the first short enough that k times it is exact (Cody and
// Waite, 1980).
INLINE Reduced reduce_exponent(vec x, vec low) {
  constexpr real ln2_high = real(is_float ? 0.693359375 : 6.93145751953125e-1);
  constexpr real ln2_low = real(is_float ? -2.12194440054690583e-4 : 1.42860682030941723212e-6);
  x = max(set(exp_lowest), min(set(exp_highest), x));
  const vec k = nearest_whole(x * set(real(1.44269504088896341)));
  const vec r = fma(k, set(-ln2_low), fma(k, set(-ln2_high), x)) + low;
  vec tail;                // (e^r - 1 - r) / r^2
  if constexpr (is_float)  // Cephes, expf.c
    tail = horner(r, 5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4);
  else  // Taylor's, whose next term is 4e-18 at r = ln 2 / 2
    tail = horner(r, 1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320., 1 / 362880., 1 / 3628800., 1 / 39916800.,
                  1 / 479001600., 1 / 6227020800.);
  return {fma(r * r, tail, r), k};
}

// e^x = p 2^k, so that a product with e^x is rounded once and neither overflows nor vanishes on the way.
struct Exponential {
  vec p, k;
};

INLINE Exponential exponential(vec x) {
  const Reduced e = reduce_exponent(x, zero());
  return {e.rest + set(1), e.k};
}

INLINE vec exp(vec x) {
  const Exponential e = exponential(x);
  return scale_by_power(e.p, e.k);
}

// e^x - 1 for x <= 0
INLINE vec expm1_below(vec x) {
  const Reduced e = reduce_exponent(x, zero());
  return scale_by_power(e.rest, e.k) + (scale_by_power(set(1), e.k) - set(1));
}

// e^(-t^2 / 2) for 0 <= t <= 40: t in two parts, the square of the first being exact
INLINE Reduced gaussian(vec t) {
  constexpr real rounder = real(is_float ? 49152.0 : 6442450944.0);  // its last bit stands for 2^-8, or 2^-20
  const vec coarse = t + set(rounder) - set(rounder), half = set(real(-0.5));
  return reduce_exponent(half * coarse * coarse, half * (t - coarse) * (t + coarse));
}

// --- logarithms

// log(2^k (1 + f)): s = f / (2 + f), log(1 + f) = 2 atanh(s) (fdlibm, e_log.c and e_logf.c)
INLINE vec log_of(Factors x) {
  constexpr real ln2_high = real(is_float ? 6.9313812256e-01 : 6.93147180369123816490e-01);
  constexpr real ln2_low = real(is_float ? 9.0580006145e-06 : 1.90821492927058770002e-10);
  const vec f = x.f, s = f / (f + set(2)), z = s * s, half_square = set(real(0.5)) * f * f;
  vec series;
  if constexpr (is_float)
    series = z * horner(z, 0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841);
  else
    series = z * horner(z, 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
                        1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01);
  return s * (half_square + series) + x.k * set(ln2_low) - half_square + f + x.k * set(ln2_high);
}

INLINE vec log(vec x) {
  vec y = log_of(factors_of(x));
  y = select(x < set(smallest_normal), set(-infinity), y);
  y = select(x <= set(-smallest_normal), set(real(__builtin_nan(""))), y);
  return select(x <= set(largest_number), y, x);
}

// log(1 + e) for 0 <= e <= 1
INLINE vec log1p_of_part(vec e) {
  const auto doubled = e > set(real(0.41421356237309504));
  return log_of({select(doubled, set(real(0.5)) * (e - set(1)), e), select(doubled, set(1), zero())});
}

// --- the logistic function and tanh

// With logistic(x) = 1 / (1 + e^-x) and its complement from the same e^-|x|
struct Logistic {
  vec value, complement;  // logistic(x), 1 - logistic(x)
};

INLINE Logistic logistic(vec x) {
  const vec e = exp(-absolute(x)), larger_part = set(1) / (set(1) + e), smaller_part = e * larger_part;
  return {select(x < zero(), smaller_part, larger_part), select(x < zero(), larger_part, smaller_part)};
}

// x logistic(z), z of the sign of x; scaled last so that it holds out to where its own value vanishes
INLINE vec gate(vec x, vec z) {
  const Exponential e = exponential(-absolute(z));
  const vec below = select(z < set(exp_lowest), x * zero(), scale_by_power(x * e.p, e.k));
  return select(x < zero(), below, x) / (set(1) + scale_by_power(e.p, e.k));
}

INLINE vec silu(vec x) { return gate(x, x); }

INLINE vec silu_slope(vec x) {
  const Logistic s = logistic(x);
  return s.value * fma(x, s.complement, set(1));
}

// tanh |x| = -m / (2 + m), m = e^(-2 |x|) - 1
INLINE vec tanh(vec x) {
  const vec m = expm1_below(set(-2) * absolute(x));
  return with_sign(m / (m + set(2)), x);
}

// max(x, 0) + log(1 + e^-|x|)
INLINE vec softplus(vec x) {
  const vec rest = log1p_of_part(exp(-absolute(x)));
  return select(x > zero(), x + rest, rest);
}

// --- gelu

constexpr real gelu_reach = real(is_float ? 14.5 : 39);  // Phi(-t) is 0 beyond it, Phi being the normal distribution

// e^(-t^2 / 2) / Phi(-t) = 2 + t (sqrt(2 pi) - v(t)), v a quotient of least error: 2e-8 of the whole on [0, 14.5], 2e-16 on [0, 39]. Its
// terms are positive, so that nothing cancels, and its own rounding counts little.
INLINE vec over_normal_tail(vec t) {
  vec over, under;
  if constexpr (is_float) {
    over = horner(t, 0.91085793459098442, 0.55578723387986598, 0.15575674172982671, 0.018979643296745175);
    under = horner(t, 1.0, 0.91014250279489214, 0.39145129951077608, 0.089715092007050752, 0.0094911269371574379);
  } else {
    over = horner(t, 0.91085915302528929, 1.1528252424259662, 0.72328520423620941, 0.28664816510671644, 0.077692798518712742,
                  0.014694814365403805, 0.0018969320359769827, 0.00015385264806617558, 6.09664362365766e-6);
    under = horner(t, 1.0, 1.5656260163005835, 1.2110854179371043, 0.59507841310103598, 0.20276012692311266, 0.049491837175404703,
                   0.0086553290415499393, 0.0010496671565075951, 8.0746828899262979e-5, 3.0483218115869571e-6);
  }
  return fma(t, set(real(2.5066282746310002)) - over / under, set(2));
}

// x Phi(x) = max(x, 0) - t Phi(-t), t = |x|
INLINE vec gelu(vec x) {
  const vec t = min(set(gelu_reach), absolute(x)), quotient = t / over_normal_tail(t);
  const Reduced e = gaussian(t);
  const vec rest = scale_by_power(fma(quotient, e.rest, quotient), e.k);
  return select(x < zero(), select(x < set(-gelu_reach), x * zero(), -rest), x - rest);
}

// Phi(x) + x phi(x)
INLINE vec gelu_slope(vec x) {
  const vec t = min(set(gelu_reach), absolute(x)), density = t * set(real(0.3989422804014327));
  const Reduced e = gaussian(t);
  const vec below =
      scale_by_power((e.rest + set(1)) * (set(1) / over_normal_tail(t) - density), e.k);  // Phi(-t) - t phi(t), and 1 less that for t
  return select(x < zero(), below, set(1) - below);
}

// The form with tanh is x logistic(z), z = sqrt(8 / pi) (x + 0.044715 x^3); within 4 (1 + |z|) ulp
constexpr double gelu_tanh_factor = 1.5957691216057308, gelu_tanh_cube = 0.044715;

INLINE vec gelu_tanh(vec x) { return gate(x, set(real(gelu_tanh_factor)) * x * fma(x * x, set(real(gelu_tanh_cube)), set(1))); }

INLINE vec gelu_tanh_slope(vec x) {
  x = max(set(-20), min(set(20), x));  // beyond: 0 or 1 for long
  const vec square = x * x, dz = fma(square, set(real(3 * gelu_tanh_cube * gelu_tanh_factor)), set(real(gelu_tanh_factor)));
  const Logistic s = logistic(set(real(gelu_tanh_factor)) * x * fma(square, set(real(gelu_tanh_cube)), set(1)));
  return s.value * fma(x * dz, s.complement, set(1));
}

// --- Gaussian numbers out of random words (Box, Muller 1958), in pairs: radius cos(angle), radius sin(angle)

INLINE real uniform_of(uint32_t word) { return (real(word >> 9) + real(0.5)) * real(1 / 8388608.0); }  // in (0, 1), exact

INLINE vec radius_of(vec uniform) { return sqrt(set(-2) * log(uniform)); }

// An angle of word / 2^32 turns is `quarter` right angles and a rest of -pi/4 ... pi/4.
INLINE uint32_t quarter_of(uint32_t word) { return (word + (1u << 29)) >> 30; }
INLINE real rest_of(uint32_t word) { return real(int32_t(word - (quarter_of(word) << 30))) * real(1.4629180792671596e-9); }  // 2 pi / 2^32

struct Circle {
  vec cosine, sine;
};

INLINE Circle circle(vec rest) {  // Cephes, sinf.c; Taylor's series for float64
  const vec z = rest * rest;
  if constexpr (is_float)
    return {fma(z * z, horner(z, 4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5), fma(set(real(-0.5)), z, set(1))),
            fma(rest * z, horner(z, -1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4), rest)};
  else
    return {horner(z, 1, -1 / 2., 1 / 24., -1 / 720., 1 / 40320., -1 / 3628800., 1 / 479001600., -1 / 87178291200., 1 / 20922789888000.),
            rest * horner(z, 1, -1 / 6., 1 / 120., -1 / 5040., 1 / 362880., -1 / 39916800., 1 / 6227020800., -1 / 1307674368000.,
                          1 / 355687428096000.)};
}

// Cosine and sine of a rest, turned on by right angles
INLINE real turned_cosine(real cosine, real sine, uint32_t quarter) {
  const real size = quarter & 1 ? sine : cosine;
  return quarter == 1 || quarter == 2 ? -size : size;
}
INLINE real turned_sine(real cosine, real sine, uint32_t quarter) {
  const real size = quarter & 1 ? cosine : sine;
  return quarter >= 2 ? -size : size;
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
