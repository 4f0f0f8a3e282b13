// exp, the logistic function and silu, step by step as in cpu/math.h, with its bits: exp within 1.01 ulp, silu within 3.
// Denormals count as zero; NaN and Inf as in C.
#pragma once
#include "launch.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr float smallest_normal = 1.1754943508222875e-38f;
constexpr float exp_lowest = -104, exp_highest = 89;  // beyond: 0 and infinity
constexpr float rounder = 12582912;                   // 1.5 2^23: its last bit stands for 1

__device__ __forceinline__ float power_of_two(int k) { return float_of(uint32_t(k + 127) << 23); }

// e^x = p 2^k, so that a product with e^x is rounded once and neither overflows nor vanishes on the way.
struct Exponential {
  float p;
  int k;
  // a 2^k, rounded once even where 2^k alone is out of range
  __device__ __forceinline__ float scale(float a) const {
    const int half = k >> 1;
    return a * power_of_two(half) * power_of_two(k - half);
  }
};

// x = k ln 2 + r; ln 2 in two parts, the first short enough that k times it is exact (Cody and Waite, 1980); Cephes' polynomial.
__device__ __forceinline__ Exponential exponential(float x) {
  x = x > exp_highest ? exp_highest : x;
  x = x < exp_lowest ? exp_lowest : x;
  const float shifted = x * 1.44269504088896341f + rounder, k = shifted - rounder;
  const float r = fmaf(k, 2.12194440054690583e-4f, fmaf(k, -0.693359375f, x));
  float tail = fmaf(r, 1.9875691500e-4f, 1.3981999507e-3f);  // (e^r - 1 - r) / r^2
  tail = fmaf(r, tail, 8.3334519073e-3f);
  tail = fmaf(r, tail, 4.1665795894e-2f);
  tail = fmaf(r, tail, 1.6666665459e-1f);
  tail = fmaf(r, tail, 5.0000001201e-1f);
  return {fmaf(r * r, tail, r) + 1, int(bits_of(shifted) - bits_of(rounder))};
}

__device__ __forceinline__ float exp(float x) {
  const Exponential e = exponential(x);
  return e.scale(e.p);
}

// x logistic(x), scaled last so that it holds out to where its own value vanishes
__device__ __forceinline__ float silu(float x) {
  const Exponential e = exponential(x < 0 ? x : -x);
  const float below = x < exp_lowest ? x * 0 : e.scale(x * e.p);
  return (x < 0 ? below : x) / (1 + e.scale(e.p));
}

// With logistic(x) = 1 / (1 + e^-x) and its complement 1 - logistic(x) from the same e^-|x|: logistic(x) (1 + x (1 - logistic(x)))
__device__ __forceinline__ float silu_slope(float x) {
  const float e = exp(x < 0 ? x : -x), larger_part = 1 / (1 + e), smaller_part = e * larger_part;
  return x < 0 ? smaller_part * fmaf(x, larger_part, 1) : larger_part * fmaf(x, smaller_part, 1);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
