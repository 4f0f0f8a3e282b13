// Softmax and cross-entropy in one: the log-sum-exp of each row is kept, the softmax never stored. And its second half alone, nll.
#include <cmath>

#include "rows.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE double sum_weights(int64_t C, const R* w) {
  double total = w ? 0 : double(C);
  for (int64_t c = 0; w && c < C; c++) total += w[c];
  return total;
}

// Labels are looked at ahead of a loss; its memory may be others', who write meanwhile. NaN then, as on a GPU, and nothing beyond the row.
INLINE bool names_class(int64_t label, int64_t C) { return uint64_t(label) < uint64_t(C); }

INLINE void fill_with_nan(T* p, int64_t n) {
  for (int64_t c = 0; c < n; c++) p[c] = T(real(NAN));
}

INLINE double weight_of(const R* weight, int64_t c) { return weight ? double(weight[c]) : 1; }

INLINE void clear(T* p, int64_t n) { __builtin_memset(p, 0, size_t(n) * sizeof(T)); }

// What one loss, or all together, are divided by and scaled with on the way back
INLINE double scale_of(Reduction reduction, const R* dloss, int64_t i, double divisor) {
  return double(dloss[reduction == Reduction::none ? i : 0]) / divisor;
}

void write_loss(Reduction reduction, double total, double divisor, R* loss) {
  if (reduction != Reduction::none) *loss = R(reduction == Reduction::mean ? total / divisor : total);
}

}  // namespace

Plan cross_entropy_forward_plan(const Context&, const CrossEntropy&) { return {"blocks_of_samples", 0}; }

void cross_entropy_forward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight, R* loss,
                           R* top, R* log_sum, R* divisor, void*) {
  const double all_weights = s.smoothing > 0 ? sum_weights(s.C, weight) : 0, spread = s.smoothing / double(s.C);
  const Counted total = add_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = logits + i * s.C;
    const LogSumExp lse(z, s.C);
    top[i] = lse.top, log_sum[i] = R(lse.log_sum);
    Counted of;
    const int64_t label = labels[i];
    if (label != s.ignore_index && !names_class(label, s.C)) {
      of = {NAN, NAN};
    } else if (label != s.ignore_index) {
      of.weight = weight_of(weight, label);
      of.loss = of.weight * (1 - s.smoothing) * (lse.log_sum + (double(lse.top) - double(z[label])));
      if (s.smoothing > 0) {
        const double distances = sum_terms(0, s.C, [&](int64_t c, auto load, auto) {
          const vec distance = set(lse.top) - load_filled(z + c, s.C - c, lse.top, load);
          return weight ? load(weight + c) * distance : distance;
        });
        of.loss += spread * (distances + lse.log_sum * all_weights);
      }
    }
    if (s.reduction == Reduction::none) loss[i] = R(of.loss);
    return of;
  });
  *divisor = s.reduction == Reduction::mean ? R(total.weight) : 1;
  write_loss(s.reduction, total.loss, total.weight, loss);
}

// dz_c = (softmax_c (w_t (1 - e) + e / C sum w) - e / C w_c - [c = t] w_t (1 - e)) dloss / divisor
void cross_entropy_backward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight,
                            const R* top, const R* log_sum, const R* divisor, const R* dloss, T* dx) {
  const double all_weights = s.smoothing > 0 ? sum_weights(s.C, weight) : 0, spread = s.smoothing / double(s.C);
  for_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = logits + i * s.C;
    T* dz = dx + i * s.C;
    const int64_t label = labels[i];
    if (label == s.ignore_index) return clear(dz, s.C);
    if (!names_class(label, s.C)) return fill_with_nan(dz, s.C);
    const double scale = scale_of(s.reduction, dloss, i, double(*divisor)), hit = weight_of(weight, label) * (1 - s.smoothing);
    const vec share = set(real(scale * (hit + spread * all_weights))), even = set(real(scale * spread));
    const vec highest = set(top[i]), rest = set(log_sum[i]);
    const auto slope = [=](vec score, vec w) { return fma(share, exp((score - highest) - rest), -(even * w)); };
    for_vectors(0, s.C, [=](int64_t c, auto load, auto store) { store(dz + c, slope(load(z + c), weight ? load(weight + c) : set(1))); });
    dz[label] = T(slope(set(z[label]), weight ? set(weight[label]) : set(1))[0] - real(scale * hit));
  });
}

// --- targets that are probabilities

namespace {

// q[c] = w[c] ((1 - e) t[c] + e / C); missing lanes 0
template <class Load>
INLINE vec soft_target(const SoftCrossEntropy& s, const R* target, const R* weight, int64_t c, Load load) {
  const vec q = fma(set(real(1 - s.smoothing)), load(target + c), set(real(s.smoothing / double(s.C))));
  return cut_off(weight ? load(weight + c) * q : q, s.C - c);
}

}  // namespace

Plan soft_cross_entropy_forward_plan(const Context&, const SoftCrossEntropy&) { return {"blocks_of_samples", 0}; }

void soft_cross_entropy_forward(const Context& context, const SoftCrossEntropy& s, const T* logits, const R* target, const R* weight,
                                R* loss, R* top, R* log_sum, void*) {
  const Counted total = add_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = logits + i * s.C;
    const LogSumExp lse(z, s.C);
    top[i] = lse.top, log_sum[i] = R(lse.log_sum);
    const vec highest = set(lse.top), rest = set(real(lse.log_sum));
    const double l = sum_terms(0, s.C, [&](int64_t c, auto load, auto) {
      const vec q = soft_target(s, target + i * s.C, weight, c, load);
      return select(q == zero(), zero(), q * (rest + (highest - load(z + c))));
    });
    if (s.reduction == Reduction::none) loss[i] = R(l);
    return Counted{l, 1};
  });
  write_loss(s.reduction, total.loss, double(s.N), loss);
}

// dz_c = (softmax_c sum q - q_c) dloss / divisor
void soft_cross_entropy_backward(const Context& context, const SoftCrossEntropy& s, const T* logits, const R* target, const R* weight,
                                 const R* top, const R* log_sum, const R* dloss, T* dx) {
  const double divisor = s.reduction == Reduction::mean ? double(s.N) : 1;
  for_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = logits + i * s.C;
    const R* t = target + i * s.C;
    const double scale = scale_of(s.reduction, dloss, i, divisor);
    const double all = sum_terms(0, s.C, [&](int64_t c, auto load, auto) { return soft_target(s, t, weight, c, load); });
    const vec share = set(real(scale * all)), factor = set(real(scale)), highest = set(top[i]), rest = set(log_sum[i]);
    for_vectors(0, s.C, [&](int64_t c, auto load, auto store) {
      const vec softmax = exp((load(z + c) - highest) - rest), q = soft_target(s, t, weight, c, load);
      store(dx + i * s.C + c, fma(share, softmax, -(factor * q)));
    });
  });
}

// --- of logarithms of probabilities

Plan nll_forward_plan(const Context&, const CrossEntropy&) { return {"blocks_of_samples", 0}; }

void nll_forward(const Context& context, const CrossEntropy& s, const T* log_p, const i64* labels, const R* weight, R* loss, R* divisor,
                 void*) {
  const Counted total = add_rows(context, s.N, 1, [&](int64_t i) {
    Counted of;
    const int64_t label = labels[i];
    if (label != s.ignore_index && !names_class(label, s.C)) {
      of = {NAN, NAN};
    } else if (label != s.ignore_index) {
      of.weight = weight_of(weight, label);
      of.loss = -of.weight * double(log_p[i * s.C + label]);
    }
    if (s.reduction == Reduction::none) loss[i] = R(of.loss);
    return of;
  });
  *divisor = s.reduction == Reduction::mean ? R(total.weight) : 1;
  write_loss(s.reduction, total.loss, total.weight, loss);
}

void nll_backward(const Context& context, const CrossEntropy& s, const T*, const i64* labels, const R* weight, const R* divisor,
                  const R* dloss, T* dx) {
  for_rows(context, s.N, s.C, [&](int64_t i) {
    const int64_t label = labels[i];
    if (label != s.ignore_index && !names_class(label, s.C)) return fill_with_nan(dx + i * s.C, s.C);
    clear(dx + i * s.C, s.C);
    if (label != s.ignore_index) dx[i * s.C + label] = T(-weight_of(weight, label) * scale_of(s.reduction, dloss, i, double(*divisor)));
  });
}

// --- margins

namespace {

// v_c = margin - z[label] + z[c] is shift + z[c]; a loss or a slope has terms for the classes on both sides of the label. NaN stays NaN.
INLINE real shift_of(const MultiMargin& s, const T* z, int64_t label) { return real(s.margin) - z[label]; }

}  // namespace

Plan multi_margin_forward_plan(const Context&, const MultiMargin&) { return {"blocks_of_samples", 0}; }

void multi_margin_forward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight, R* loss,
                          void*) {
  const Counted total = add_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = scores + i * s.C;
    const int64_t label = labels[i];
    if (!names_class(label, s.C)) {
      if (s.reduction == Reduction::none) loss[i] = R(NAN);
      return Counted{NAN, 1};
    }
    const vec shift = set(shift_of(s, z, label));
    const auto side = [&](int64_t begin, int64_t end) {
      return sum_terms(begin, end, [&](int64_t c, auto load, auto) {
        const vec v = max(zero(), shift + load(z + c));
        return cut_off(s.p == 1 ? v : v * v, end - c);
      });
    };
    const double l = s.scale * weight_of(weight, label) * (side(0, label) + side(label + 1, s.C));
    if (s.reduction == Reduction::none) loss[i] = R(l);
    return Counted{l, 1};
  });
  write_loss(s.reduction, total.loss, double(s.N), loss);
}

// dz_c = scale w_t [v_c > 0] p v_c^(p-1) dloss / divisor for c != t, and dz_t is minus their sum
void multi_margin_backward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight,
                           const R* dloss, T* dx) {
  const double divisor = s.reduction == Reduction::mean ? double(s.N) : 1;
  for_rows(context, s.N, s.C, [&](int64_t i) {
    const T* z = scores + i * s.C;
    T* dz = dx + i * s.C;
    const int64_t label = labels[i];
    if (!names_class(label, s.C)) return fill_with_nan(dz, s.C);
    const double scale = scale_of(s.reduction, dloss, i, divisor) * s.scale * weight_of(weight, label);
    const vec shift = set(shift_of(s, z, label)), once = set(real(scale)), twice = set(real(2 * scale));
    const auto side = [&](int64_t begin, int64_t end) {
      return sum_terms(begin, end, [&](int64_t c, auto load, auto store) {
        const vec v = shift + load(z + c), slope = s.p == 1 ? once : twice * v;
        const vec d = select(v > zero(), slope, select(v <= zero(), zero(), v));
        store(dz + c, d);
        return cut_off(d, end - c);
      });
    };
    const double left = side(0, label), right = side(label + 1, s.C);
    dz[label] = T(-(left + right));
  });
}

}  // namespace fastnn::FASTNN_TABLE
