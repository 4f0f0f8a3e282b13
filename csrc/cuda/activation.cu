// Activations of their own; fused ones come from activation.cuh too.
#include "activation.cuh"

#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <Activation activation>
struct Activate {
  __device__ __forceinline__ float operator()(float x) const { return activate<activation>(x); }
};

template <Activation activation>
struct ActivateBackward {
  __device__ __forceinline__ float operator()(float x, float dy) const { return activate_backward<activation>(x, dy); }
};

}  // namespace

void relu_forward(const Context& context, const Elements& s, const T* x, T* y) {
  map_dense(context, s.n, Activate<Activation::relu>{}, y, x);
}

void relu_backward(const Context& context, const Elements& s, const T* y, const T* dy, T* dx) {
  map_dense(context, s.n, ActivateBackward<Activation::relu>{}, dx, y, dy);
}

void silu_forward(const Context& context, const Elements& s, const T* x, T* y) {
  map_dense(context, s.n, Activate<Activation::silu>{}, y, x);
}

void silu_backward(const Context& context, const Elements& s, const T* x, const T* dy, T* dx) {
  map_dense(context, s.n, ActivateBackward<Activation::silu>{}, dx, x, dy);
}

}  // namespace fastnn::FASTNN_TABLE
