// A convolution whose result a residual is added to before the activation, and an input gradient that is added to one that is there
// already: where tiles are written, or behind them in a pass of its own.
#include "activation.h"
#include "conv2d/algorithm.h"
#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <Activation activation>
void add(const Context& context, int64_t count, const storage* residual, storage* y) {
  for_results(context, count, y,
              [=](int64_t i, auto load, auto store) { store(y + i, activate<activation>(load(y + i) + load(residual + i))); });
}

}  // namespace

Plan conv2d_add_forward_plan(const Context& context, const Conv2d& conv) { return conv2d_forward_plan(context, conv); }
Plan conv2d_add_backward_input_plan(const Context& context, const Conv2d& conv) { return conv2d_backward_input_plan(context, conv); }

void conv2d_add_forward(const Context& context, const Conv2d& conv, const T* x, const T* w, const R* b, const T* residual, T* y,
                        void* scratch) {
  const ConvAlgorithm& algorithm = forward_algorithm(context, conv);
  if (algorithm.adds) return algorithm.run(context, conv, {x, w, b, y, residual}, scratch);
  Conv2d sum = conv;
  sum.activation = Activation::none;
  algorithm.run(context, sum, {x, w, b, y}, scratch);
  with_activation(conv.activation,
                  [&](auto constant) { add<decltype(constant)::activation>(context, conv.N * conv.P * conv.Q * conv.K, residual, y); });
}

void conv2d_add_backward_input(const Context& context, const Conv2d& conv, const T* dy, const T* w, const T* before, T* dx, void* scratch) {
  const ConvAlgorithm& algorithm = backward_input_algorithm(context, conv);
  if (algorithm.adds) return algorithm.run(context, conv, {dy, w, nullptr, dx, before}, scratch);
  algorithm.run(context, conv, {dy, w, nullptr, dx}, scratch);
  add<Activation::none>(context, conv.N * conv.H * conv.W * conv.C, before, dx);
}

}  // namespace fastnn::FASTNN_TABLE
