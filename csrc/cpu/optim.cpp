// Optimizer steps: all parameters in one launch. A rule per optimizer turns a vector of weights into the next one.
#include "update.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <bool has_momentum, bool nesterov>
struct Descent {
  R rate, decay, momentum, fresh, sign;
  const R* g;
  R* v;
  Descent(const f64* rates, i64 t, const R* g, R* v)
      : rate(R(-rates[0])),
        decay(R(rates[1])),
        momentum(R(rates[2])),
        fresh(t == 1 ? R(1) : R(1 - rates[4])),
        sign(R(rates[5])),
        g(g),
        v(v) {}

  template <class Load, class Store>
  INLINE vec operator()(int64_t i, vec w, Load load, Store store) const {
    vec step = fma(set(decay), w, set(sign) * load(g + i));
    if constexpr (has_momentum) {
      const vec velocity = fma(set(momentum), load(v + i), set(fresh) * step);
      store(v + i, velocity);
      step = nesterov ? fma(set(momentum), velocity, step) : velocity;
    }
    return fma(set(rate), step, w);
  }
};

template <bool amsgrad>
struct AdamRule {
  R rate, decay, shrink;  // w = shrink w - rate m / (sqrt(v) root_correction + eps)
  R beta1, new_m, beta2, new_v, eps, root_correction, sign;
  const R* g;
  R *m, *v, *top;

  AdamRule(const f64* rates, i64 t, const R* g, R* m, R* v, R* top) : g(g), m(m), v(v), top(top) {
    const double lr = rates[0], weight_decay = rates[1], beta1_ = rates[2], beta2_ = rates[3];
    const bool decoupled = rates[5] != 0;
    rate = R(-lr / (1 - __builtin_pow(beta1_, double(t))));
    decay = decoupled ? 0 : R(weight_decay);
    shrink = decoupled ? R(1 - lr * weight_decay) : 1;
    beta1 = R(beta1_), new_m = R(1 - beta1_), beta2 = R(beta2_), new_v = R(1 - beta2_), eps = R(rates[4]);
    root_correction = R(1 / __builtin_sqrt(1 - __builtin_pow(beta2_, double(t))));
    sign = R(rates[7]);
  }

  template <class Load, class Store>
  INLINE vec operator()(int64_t i, vec w, Load load, Store store) const {
    const vec gradient = fma(set(decay), w, set(sign) * load(g + i));
    const vec first = fma(set(new_m), gradient, set(beta1) * load(m + i));
    vec second = fma(set(new_v) * gradient, gradient, set(beta2) * load(v + i));
    store(m + i, first);
    store(v + i, second);
    if constexpr (amsgrad) {
      const vec before = load(top + i);
      second = select(before > second, before, second);  // NaN in the new one stays
      store(top + i, second);
    }
    return fma(set(rate), first / fma(sqrt(second), set(root_correction), set(eps)), w * set(shrink));
  }
};

struct AdagradRule {
  R rate, decay, eps, sign;
  const R* g;
  R* s;
  AdagradRule(const f64* rates, i64 t, const R* g, R* s)
      : rate(R(-rates[0] / (1 + double(t - 1) * rates[2]))), decay(R(rates[1])), eps(R(rates[3])), sign(R(rates[4])), g(g), s(s) {}

  template <class Load, class Store>
  INLINE vec operator()(int64_t i, vec w, Load load, Store store) const {
    const vec gradient = fma(set(decay), w, set(sign) * load(g + i)), sum = fma(gradient, gradient, load(s + i));
    store(s + i, sum);
    return fma(set(rate), gradient / (sqrt(sum) + set(eps)), w);
  }
};

template <bool centered, bool has_momentum>
struct RMSpropRule {
  R rate, decay, alpha, fresh, eps, momentum, sign;
  const R* g;
  R *s, *m, *v;
  RMSpropRule(const f64* rates, const R* g, R* s, R* m, R* v)
      : rate(R(-rates[0])),
        decay(R(rates[1])),
        alpha(R(rates[2])),
        fresh(R(1 - rates[2])),
        eps(R(rates[3])),
        momentum(R(rates[4])),
        sign(R(rates[6])),
        g(g),
        s(s),
        m(m),
        v(v) {}

  template <class Load, class Store>
  INLINE vec operator()(int64_t i, vec w, Load load, Store store) const {
    const vec gradient = fma(set(decay), w, set(sign) * load(g + i));
    vec square = fma(set(fresh) * gradient, gradient, set(alpha) * load(s + i));
    store(s + i, square);
    if constexpr (centered) {
      const vec mean = fma(set(fresh), gradient, set(alpha) * load(m + i));
      store(m + i, mean);
      square -= mean * mean;
      square = select(square < zero(), zero(), square);  // rounding may bring a variance of 0 below it; NaN stays
    }
    vec step = gradient / (sqrt(square) + set(eps));
    if constexpr (has_momentum) {
      step = fma(set(momentum), load(v + i), step);
      store(v + i, step);
    }
    return fma(set(rate), step, w);
  }
};

}  // namespace

void sgd_step(const Context& context, const SGD& s, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
              const f64* rates, const i64* t, f64* moved) {
  update(context, s, w, moved, [&](int64_t p, const auto& run) {
    const f64* row = rates + group[p] * 6;
    if (row[2] == 0)
      run(Descent<false, false>(row, t[p], g.data[p], v.data[p]));
    else if (row[3] == 0)
      run(Descent<true, false>(row, t[p], g.data[p], v.data[p]));
    else
      run(Descent<true, true>(row, t[p], g.data[p], v.data[p]));
  });
}

void adam_step(const Context& context, const Adam& s, const List<R>& w, const List<const R>& g, const List<R>& m, const List<R>& v,
               const List<R>& top, const i64* group, const f64* rates, const i64* t, f64* moved) {
  update(context, s, w, moved, [&](int64_t p, const auto& run) {
    const f64* row = rates + group[p] * 8;
    if (row[6] == 0)
      run(AdamRule<false>(row, t[p], g.data[p], m.data[p], v.data[p], top.data[p]));
    else
      run(AdamRule<true>(row, t[p], g.data[p], m.data[p], v.data[p], top.data[p]));
  });
}

void adagrad_step(const Context& context, const Adagrad& a, const List<R>& w, const List<const R>& g, const List<R>& s, const i64* group,
                  const f64* rates, const i64* t, f64* moved) {
  update(context, a, w, moved, [&](int64_t p, const auto& run) { run(AdagradRule(rates + group[p] * 5, t[p], g.data[p], s.data[p])); });
}

void rmsprop_step(const Context& context, const RMSprop& r, const List<R>& w, const List<const R>& g, const List<R>& s, const List<R>& m,
                  const List<R>& v, const i64* group, const f64* rates, const i64*, f64* moved) {
  update(context, r, w, moved, [&](int64_t p, const auto& run) {
    const f64* row = rates + group[p] * 7;
    const bool centered = row[5] != 0;
    if (row[4] == 0)
      centered ? run(RMSpropRule<true, false>(row, g.data[p], s.data[p], m.data[p], v.data[p]))
               : run(RMSpropRule<false, false>(row, g.data[p], s.data[p], m.data[p], v.data[p]));
    else
      centered ? run(RMSpropRule<true, true>(row, g.data[p], s.data[p], m.data[p], v.data[p]))
               : run(RMSpropRule<false, true>(row, g.data[p], s.data[p], m.data[p], v.data[p]));
  });
}

}  // namespace fastnn::FASTNN_TABLE
