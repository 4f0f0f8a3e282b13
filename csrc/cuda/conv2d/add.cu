// A convolution whose result a residual is added to before the activation, and an input gradient that is added to another, in a pass behind
// it.
#include "../activation.cuh"

#include "../elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <Activation activation>
struct AddAndActivate {
  __device__ __forceinline__ float operator()(float x, float residual) const { return activate<activation>(x + residual); }
};

}  // namespace

Plan conv2d_add_forward_plan(const Context& context, const Conv2d& v) { return conv2d_forward_plan(context, v); }
Plan conv2d_add_backward_input_plan(const Context& context, const Conv2d& v) { return conv2d_backward_input_plan(context, v); }

void conv2d_add_forward(const Context& context, const Conv2d& v, const T* x, const T* w, const R* b, const T* residual, T* y,
                        void* scratch) {
  Conv2d sum = v;
  sum.activation = Activation::none;
  conv2d_forward(context, sum, x, w, b, y, scratch);
  with_activation(v.activation, [&](auto constant) {
    map_dense(context, v.N * v.P * v.Q * v.K, AddAndActivate<decltype(constant)::activation>{}, y, y, residual);
  });
}

void conv2d_add_backward_input(const Context& context, const Conv2d& v, const T* dy, const T* w, const T* before, T* dx, void* scratch) {
  conv2d_backward_input(context, v, dy, w, dx, scratch);
  map_dense(context, v.N * v.H * v.W * v.C, AddAndActivate<Activation::none>{}, dx, dx, before);
}

}  // namespace fastnn::FASTNN_TABLE
