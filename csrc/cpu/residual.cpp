// A convolution whose result a residual is added to before the activation: where it writes its tiles, or behind it in a pass of its own.
#include "activation.h"
#include "conv2d/algorithm.h"
#include "elements.h"

namespace fastnn::FASTNN_TABLE {

Plan conv2d_add_forward_plan(const Context& context, const Conv2d& conv) { return conv2d_forward_plan(context, conv); }

void conv2d_add_forward(const Context& context, const Conv2d& conv, const T* x, const T* w, const R* b, const T* residual, T* y,
                        void* scratch) {
  const ConvAlgorithm& algorithm = forward_algorithm(context, conv);
  if (algorithm.adds) return algorithm.run(context, conv, {x, w, b, y, residual}, scratch);
  Conv2d sum = conv;
  sum.activation = Activation::none;
  algorithm.run(context, sum, {x, w, b, y}, scratch);
  with_activation(conv.activation, [&](auto constant) {
    for_elements(context, conv.N * conv.P * conv.Q * conv.K, [=](int64_t i, auto load, auto store) {
      store(y + i, activate<decltype(constant)::activation>(load(y + i) + load(residual + i)));
    });
  });
}

}  // namespace fastnn::FASTNN_TABLE
