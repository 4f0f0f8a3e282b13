// Activations of their own; fused ones come from activation.h too.
#include "activation.h"

#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {

template <class X>
void activate_in_place(Activation activation, X* x, int64_t count) {
  if (activation == Activation::none) return;
  with_activation(activation, [=](auto constant) {
    for_vectors(0, count, [=](int64_t i, auto load, auto store) { store(x + i, activate<decltype(constant)::activation>(load(x + i))); });
  });
}
template void activate_in_place(Activation, real*, int64_t);
#if defined(FASTNN_NARROW_STORAGE)
template void activate_in_place(Activation, storage*, int64_t);
#endif

void relu_forward(const Context& context, const Elements& s, const T* x, T* y) {
  for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, relu(load(x + i))); });
}

void relu_backward(const Context& context, const Elements& s, const T* y, const T* dy, T* dx) {
  for_results(context, s.n, dx,
              [=](int64_t i, auto load, auto store) { store(dx + i, activate_backward<Activation::relu>(load(y + i), load(dy + i))); });
}

void silu_forward(const Context& context, const Elements& s, const T* x, T* y) {
  for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, silu(load(x + i))); });
}

void silu_backward(const Context& context, const Elements& s, const T* x, const T* dy, T* dx) {
  for_results(context, s.n, dx, [=](int64_t i, auto load, auto store) { store(dx + i, load(dy + i) * silu_slope(load(x + i))); });
}

}  // namespace fastnn::FASTNN_TABLE
