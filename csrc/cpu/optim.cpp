// Optimizer steps: all parameters in one launch. The elements of the whole list are cut into blocks, across parameters.
#include "elements.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// body(parameter, begin, end) for the pieces of each block, in the order of the list
template <class F>
INLINE void for_parameters(const Context& context, const int64_t* size, int64_t count, const F& body) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += size[i];
  for_blocks(context, total, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < count && end > 0; i++) {
      if (begin < size[i]) body(i, larger(begin, 0), smaller(end, size[i]));
      begin -= size[i], end -= size[i];
    }
  });
}

template <bool has_momentum, bool nesterov>
INLINE void sgd(R* w, const R* g, R* v, int64_t begin, int64_t end, const double* rates) {
  const vec rate = set(R(-rates[0])), decay = set(R(rates[1])), momentum = set(R(rates[2]));
  for_vectors(begin, end, [=](int64_t i, auto load, auto store) {
    const vec weight = load(w + i);
    vec step = fma(decay, weight, load(g + i));
    if constexpr (has_momentum) {
      const vec velocity = fma(momentum, load(v + i), step);
      store(v + i, velocity);
      step = nesterov ? fma(momentum, velocity, step) : velocity;
    }
    store(w + i, fma(rate, step, weight));
  });
}

struct AdamNumbers {
  R rate, decay, shrink;  // w = shrink w - rate m / (sqrt(v) root_correction + eps)
  R new_m, beta2, new_v, eps, root_correction;
};

AdamNumbers adam_numbers(const double* rates, i64 t) {
  const double lr = rates[0], decay = rates[1], beta1 = rates[2], beta2 = rates[3];
  const bool decoupled = rates[5] != 0;
  AdamNumbers a;
  a.rate = R(-lr / (1 - __builtin_pow(beta1, double(t))));
  a.decay = decoupled ? 0 : R(decay);
  a.shrink = decoupled ? R(1 - lr * decay) : 1;
  a.new_m = R(1 - beta1), a.beta2 = R(beta2), a.new_v = R(1 - beta2), a.eps = R(rates[4]);
  a.root_correction = R(1 / __builtin_sqrt(1 - __builtin_pow(beta2, double(t))));
  return a;
}

INLINE void adam(R* w, const R* g, R* m, R* v, int64_t begin, int64_t end, const AdamNumbers& a) {
  const vec rate = set(a.rate), decay = set(a.decay), shrink = set(a.shrink), new_m = set(a.new_m), beta2 = set(a.beta2);
  const vec new_v = set(a.new_v), eps = set(a.eps), root_correction = set(a.root_correction);
  for_vectors(begin, end, [=](int64_t i, auto load, auto store) {
    const vec weight = load(w + i), gradient = fma(decay, weight, load(g + i)), old_m = load(m + i);
    const vec first = fma(new_m, gradient - old_m, old_m), second = fma(new_v * gradient, gradient, beta2 * load(v + i));
    store(m + i, first);
    store(v + i, second);
    store(w + i, fma(rate, first / fma(sqrt(second), root_correction, eps), weight * shrink));
  });
}

}  // namespace

void sgd_step(const Context& context, const SGD&, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
              const f64* rates) {
  for_parameters(context, w.size, w.count, [&](int64_t p, int64_t begin, int64_t end) {
    const double* row = rates + group[p] * 4;
    if (row[2] == 0)
      sgd<false, false>(w.data[p], g.data[p], v.data[p], begin, end, row);
    else if (row[3] == 0)
      sgd<true, false>(w.data[p], g.data[p], v.data[p], begin, end, row);
    else
      sgd<true, true>(w.data[p], g.data[p], v.data[p], begin, end, row);
  });
}

void adam_step(const Context& context, const Adam&, const List<R>& w, const List<const R>& g, const List<R>& m, const List<R>& v,
               const i64* group, const f64* rates, const i64* t) {
  for_parameters(context, w.size, w.count, [&](int64_t p, int64_t begin, int64_t end) {
    adam(w.data[p], g.data[p], m.data[p], v.data[p], begin, end, adam_numbers(rates + group[p] * 6, *t));
  });
}

}  // namespace fastnn::FASTNN_TABLE
