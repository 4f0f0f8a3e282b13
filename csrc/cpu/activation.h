// Activations as template parameters, for kernels that apply them on the way.
#pragma once
#include "../activation.h"

#include "math.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE vec relu(vec x) { return max(zero(), x); }  // NaN and -0 stay

template <Activation activation>
INLINE vec activate(vec z) {
  if constexpr (activation == Activation::relu) return relu(z);
  if constexpr (activation == Activation::silu) return silu(z);
  if constexpr (activation == Activation::gelu) return gelu(z);
  return z;
}

// dz from dy, given z
template <Activation activation>
INLINE vec activate_backward(vec z, vec dy) {
  if constexpr (activation == Activation::relu) return select(z <= zero(), zero(), dy);
  if constexpr (activation == Activation::silu) return dy * silu_slope(z);
  if constexpr (activation == Activation::gelu) return dy * gelu_slope(z);
  return dy;
}

}  // namespace

// x = activation(x) for `count` neighbours, chosen at run time: for results that have just been written
template <class X>
void activate_in_place(Activation, X* x, int64_t count);

}  // namespace fastnn::FASTNN_TABLE
