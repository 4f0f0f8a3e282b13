// How kernels of CPU and CUDA are given an activation as a template parameter. Included within a table's build, after prototypes.h.
#pragma once
#include "kernels.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <Activation a>
struct Constant {
  static constexpr Activation activation = a;
};

// body(Constant<activation>): the choice is made once, outside of every loop and every launch
template <class F>
__attribute__((always_inline)) inline void with_activation(Activation activation, const F& body) {
  switch (activation) {
    case Activation::none: return body(Constant<Activation::none>{});
    case Activation::relu: return body(Constant<Activation::relu>{});
    case Activation::silu: return body(Constant<Activation::silu>{});
    case Activation::gelu: return body(Constant<Activation::gelu>{});
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
