// Losses of single elements, added up in blocks.
#include "rows.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// term(i, load) for every element: each into loss, or the sum of all, whose parts wait in scratch
template <class F>
void reduce_elements(const Context& context, Reduction reduction, int64_t n, const F& term, R* loss, void* scratch) {
  if (reduction == Reduction::none)
    return for_elements(context, n, [&](int64_t i, auto load, auto store) { store(loss + i, term(i, load)); });
  double* const sums = static_cast<double*>(scratch);
  for_blocks(context, n, [&](int64_t begin, int64_t end) {
    sums[begin / elements_per_block] = sum_terms(begin, end, [&](int64_t i, auto load, auto) { return cut_off(term(i, load), end - i); });
  });
  double total = 0;
  for (int64_t block = 0; block < divide_up(n, elements_per_block); block++) total += sums[block];
  *loss = R(reduction == Reduction::mean ? total / double(n) : total);
}

Plan plan_of(Reduction reduction, int64_t n) {
  if (reduction == Reduction::none) return {"each", 0};
  return {"blocks_of_elements", divide_up(n, elements_per_block) * int64_t(sizeof(double))};
}

// slope(i, load) dloss / divisor for every element
template <class F>
void scale_elements(const Context& context, Reduction reduction, int64_t n, const F& slope, const R* dloss, T* dx) {
  const vec scale = set(reduction == Reduction::none ? 1 : real(double(*dloss) / (reduction == Reduction::mean ? double(n) : 1)));
  if (reduction == Reduction::none)
    return for_elements(context, n, [&](int64_t i, auto load, auto store) { store(dx + i, slope(i, load) * load(dloss + i)); });
  for_elements(context, n, [&](int64_t i, auto load, auto store) { store(dx + i, slope(i, load) * scale); });
}

}  // namespace

Plan element_loss_forward_plan(const Context&, const ElementLoss& s) { return plan_of(s.reduction, s.n); }

void element_loss_forward(const Context& context, const ElementLoss& s, const T* x, const T* target, R* loss, void* scratch) {
  const vec width = set(real(s.width)), curve = set(real(s.curve)), slope = set(real(s.slope)), half = set(real(s.width / 2));
  const auto term = [=](int64_t i, auto load) {
    const vec d = absolute(load(x + i) - load(target + i));
    return select(d <= width, curve * d * d, slope * (d - half));
  };
  reduce_elements(context, s.reduction, s.n, term, loss, scratch);
}

void element_loss_backward(const Context& context, const ElementLoss& s, const T* x, const T* target, const R* dloss, T* dx) {
  const vec width = set(real(s.width)), twice = set(real(2 * s.curve)), slope = set(real(s.slope));
  const auto term = [=](int64_t i, auto load) {
    const vec d = load(x + i) - load(target + i), straight = select(d > width, slope, select(d < -width, -slope, d));  // NaN: itself
    return select(absolute(d) <= width, twice * d, straight);
  };
  scale_elements(context, s.reduction, s.n, term, dloss, dx);
}

// --- binary cross-entropy of logits

namespace {

// log(1 + e) for e in [0, 1]: what 1 + e rounds away is put back by e / (u - 1), u = 1 + e (W. Kahan; the HP-15C handbook, 1982)
INLINE vec log_of_one_and(vec e) {
  const vec u = set(1) + e, d = u - set(1);
  return select(d == zero(), e, log(u) * (e / d));
}

}  // namespace

Plan binary_cross_entropy_forward_plan(const Context&, const BinaryCrossEntropy& s) { return plan_of(s.reduction, s.n); }

void binary_cross_entropy_forward(const Context& context, const BinaryCrossEntropy& s, const T* x, const T* target, const R* weight,
                                  const R* positive, R* loss, void* scratch) {
  const auto term = [=](int64_t i, auto load) {
    const vec z = load(x + i), t = load(target + i), hit = positive ? load(positive + i) * t : t;
    const vec rest = log_of_one_and(exp(-absolute(z)));  // log(1 + e^z) = rest + max(z, 0); max: NaN stays
    const vec l = fma(set(1) - t, rest + max(zero(), z), hit * (rest + max(zero(), -z)));
    return weight ? load(weight + i) * l : l;
  };
  reduce_elements(context, s.reduction, s.n, term, loss, scratch);
}

// d/dx = w (1 - t - (1 + (p - 1) t) (1 - logistic(x)))
void binary_cross_entropy_backward(const Context& context, const BinaryCrossEntropy& s, const T* x, const T* target, const R* weight,
                                   const R* positive, const R* dloss, T* dx) {
  const auto term = [=](int64_t i, auto load) {
    const vec t = load(target + i), one = set(1);
    const Logistic p = logistic(load(x + i));
    // without weights of positives logistic(x) - t: no digits lost where both are small
    const vec d = positive ? (one - t) * p.value - load(positive + i) * t * p.complement : (one - t) * p.value - t * p.complement;
    return weight ? load(weight + i) * d : d;
  };
  scale_elements(context, s.reduction, s.n, term, dloss, dx);
}

// --- penalties on weights

namespace {

// body(weight, begin, end) for the pieces of a block, blocks cut across the whole list: at least 256th parts of it
template <class F>
INLINE void for_pieces(const Context& context, const int64_t* size, int64_t count, const F& body) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += size[i];
  const int64_t per_block = larger(elements_per_block, divide_up(total, most_blocks));
  parallel(context, divide_up(total, per_block), [&](int64_t block, int) {
    int64_t begin = block * per_block, end = smaller(begin + per_block, total);
    for (int64_t i = 0; i < count && end > 0; i++) {
      if (begin < size[i]) body(block, i, larger(begin, 0), smaller(end, size[i]));
      begin -= size[i], end -= size[i];
    }
  });
}

}  // namespace

Plan penalty_forward_plan(const Context&, const Penalty&) { return {"blocks_of_elements", 0}; }

void penalty_forward(const Context& context, const Penalty& s, const List<const R>& w, R* value, void*) {
  double sums[most_blocks] = {}, total = 0;
  for_pieces(context, w.size, w.count, [&](int64_t block, int64_t i, int64_t begin, int64_t end) {
    const R* p = w.data[i];
    if (s.l2 != 0)
      sums[block] += s.l2 * sum_terms(begin, end, [=](int64_t k, auto load, auto) {
                       const vec a = load(p + k);
                       return a * a;
                     });
    if (s.l1 != 0) sums[block] += s.l1 * sum_terms(begin, end, [=](int64_t k, auto load, auto) { return absolute(load(p + k)); });
  });
  for (double sum : sums) total += sum;
  *value = R(total);
}

void penalty_backward(const Context& context, const Penalty& s, const List<const R>& w, const R* dvalue, const List<R>& g) {
  const vec slope = set(real(2 * s.l2 * double(*dvalue))), step = set(real(s.l1 * double(*dvalue)));
  for_pieces(context, w.size, w.count, [&](int64_t, int64_t i, int64_t begin, int64_t end) {
    const R* p = w.data[i];
    R* to = g.data[i];
    for_vectors(begin, end, [=](int64_t k, auto load, auto store) {
      const vec a = load(p + k), sign = select(a > zero(), set(1), select(a < zero(), set(-1), a));
      store(to + k, fma(slope, a, step * sign));
    });
  });
}

}  // namespace fastnn::FASTNN_TABLE
