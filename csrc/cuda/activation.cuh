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
  return z;
}

// dz from dy, given z; for relu its y serves as well
template <Activation activation>
__device__ __forceinline__ float activate_backward(float z, float dy) {
  if constexpr (activation == Activation::relu) return z <= 0 ? 0 : dy;
  if constexpr (activation == Activation::silu) return dy * silu_slope(z);
  return dy;
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
