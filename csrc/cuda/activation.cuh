// Activations as template parameters, for kernels that apply them on the way.
#pragma once
#include "../activation.h"

#include "math.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <Activation activation>
__device__ __forceinline__ float activate(float z) {
  if constexpr (activation == Activation::relu) return z < 0 ? 0 : z;  // NaN and -0 stay
  if constexpr (activation == Activation::silu) return silu(z);
  if constexpr (activation == Activation::gelu) return gelu(z);
  return z;
}

// Of a few values, chosen at run time by all threads alike: in the epilogues of products, where a template would double their kernels.
template <int n>
__device__ __forceinline__ void activate(Activation activation, float (&z)[n]) {
  switch (activation) {
    case Activation::none: return;
    case Activation::relu: UNROLL for (int i = 0; i < n; i++) z[i] = activate<Activation::relu>(z[i]); return;
    case Activation::silu: UNROLL for (int i = 0; i < n; i++) z[i] = activate<Activation::silu>(z[i]); return;
    case Activation::gelu: UNROLL for (int i = 0; i < n; i++) z[i] = activate<Activation::gelu>(z[i]); return;
  }
}

// dz from dy, given z; for relu its y serves as well
template <Activation activation>
__device__ __forceinline__ float activate_backward(float z, float dy) {
  if constexpr (activation == Activation::relu) return z <= 0 ? 0 : dy;
  if constexpr (activation == Activation::silu) return dy * silu_slope(z);
  if constexpr (activation == Activation::gelu) return dy * gelu_slope(z);
  return dy;
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
