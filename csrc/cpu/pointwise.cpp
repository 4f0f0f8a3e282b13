// Functions of ../pointwise.h over whole arrays.
#include "math.h"
#include "past_caches.h"

#include "../pointwise.h"

namespace fastnn::FASTNN_TABLE {

void pointwise_forward(const Context& context, const Pointwise& s, const T* x, T* y) {
  with_function(
      s, [&](auto f) { for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, f.value(load(x + i))); }); });
}

void pointwise_backward(const Context& context, const Pointwise& s, const T* kept, const T* dy, T* dx) {
  with_function(s, [&](auto f) {
    for_results(context, s.n, dx, [=](int64_t i, auto load, auto store) { store(dx + i, f.backward(load(kept + i), load(dy + i))); });
  });
}

}  // namespace fastnn::FASTNN_TABLE
