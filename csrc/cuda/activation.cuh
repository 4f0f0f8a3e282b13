// Activations as template parameters, for kernels that apply them on the way.
#pragma once
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

template <Activation a>
struct Constant {
  static constexpr Activation activation = a;
};

// body(Constant<activation>): the choice is made once, on the host
template <class F>
void with_activation(Activation activation, const F& body) {
  switch (activation) {
    case Activation::none: return body(Constant<Activation::none>{});
    case Activation::relu: return body(Constant<Activation::relu>{});
    case Activation::silu: return body(Constant<Activation::silu>{});
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
