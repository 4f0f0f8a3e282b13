// What goes over a whole list of parameters or gradients beside the optimizers: the global norm, clipping, averages.
#include "update.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// body(load, store, i) on the elements of each parameter
template <class F>
INLINE void for_each_vector(const Context& context, const int64_t* size, int64_t count, const F& body) {
  for_parameters(context, size, count, [&](int64_t p, int64_t begin, int64_t end) {
    for_vectors(begin, end, [&](int64_t i, auto load, auto store) { body(p, i, load, store); });
  });
}

constexpr int64_t most_parts = 256;  // of a norm; each a stretch of the whole list
constexpr int64_t stretch = 4096;    // elements whose squares are added up as R, before they join a double

// Where float32's squares overflow and their elements do not
double wide_squares(const R* g, int64_t begin, int64_t end) {
  double total = 0;
  for (int64_t i = begin; i < end; i++) total += double(g[i]) * double(g[i]);
  return total;
}

INLINE double squares(const R* g, int64_t begin, int64_t end) {
  double total = 0;
  for (int64_t first = begin; first < end; first += stretch) {
    vec sum{};
    for_vectors(first, smaller(end, first + stretch), [&](int64_t i, auto load, auto) {
      const vec x = load(g + i);
      sum = fma(x, x, sum);
    });
    const double part = double(sum_lanes(sum));
    total += part - part == 0 ? part : wide_squares(g, first, smaller(end, first + stretch));
  }
  return total;
}

}  // namespace

Plan global_norm_plan(const Context&, const ParameterList&) { return {"parts", most_parts * int64_t(sizeof(double))}; }

void global_norm(const Context& context, const ParameterList&, const List<const R>& g, f64* norm, void* scratch) {
  double* const part = static_cast<double*>(scratch);
  const int64_t total = total_size(g.size, g.count);
  const int64_t length = larger(elements_per_block, divide_up(divide_up(total, most_parts), stretch) * stretch);
  const int64_t parts = divide_up(total, length);
  parallel(context, parts, [&](int64_t number, int) {
    double sum = 0;
    for_range(g.size, g.count, number * length, smaller(total, (number + 1) * length),
              [&](int64_t p, int64_t begin, int64_t end) { sum += squares(g.data[p], begin, end); });
    part[number] = sum;
  });
  double sum = 0;
  for (int64_t number = 0; number < parts; number++) sum += part[number];
  *norm = __builtin_sqrt(sum);
}

void clip_norm(const Context& context, const ParameterList&, const List<R>& g, const f64* norm, const f64* limit) {
  const double share = *limit / (*norm + 1e-6);
  if (share >= 1) return;
  const vec factor = set(R(share));
  for_each_vector(context, g.size, g.count,
                  [&](int64_t p, int64_t i, auto load, auto store) { store(g.data[p] + i, factor * load(g.data[p] + i)); });
}

void clip_value(const Context& context, const ParameterList&, const List<R>& g, const f64* limit) {
  const vec most = set(R(*limit)), least = -most;
  for_each_vector(context, g.size, g.count, [&](int64_t p, int64_t i, auto load, auto store) {
    const vec x = load(g.data[p] + i);
    store(g.data[p] + i, select(x > most, most, select(x < least, least, x)));  // NaN stays
  });
}

void average(const Context& context, const ParameterList&, const List<R>& a, const List<const R>& w, const f64* share) {
  const bool whole = *share == 1;
  const vec part = set(R(*share));
  for_each_vector(context, a.size, a.count, [&](int64_t p, int64_t i, auto load, auto store) {
    const vec old = load(a.data[p] + i), now = load(w.data[p] + i);
    store(a.data[p] + i, whole ? now : fma(part, now - old, old));
  });
}

void lookahead(const Context& context, const ParameterList&, const List<R>& slow, const List<R>& w, const f64* share) {
  const vec part = set(R(*share));
  for_each_vector(context, w.size, w.count, [&](int64_t p, int64_t i, auto load, auto store) {
    const vec old = load(slow.data[p] + i), next = fma(part, load(w.data[p] + i) - old, old);
    store(slow.data[p] + i, next);
    store(w.data[p] + i, next);
  });
}

void exchange(const Context& context, const ParameterList&, const List<R>& a, const List<R>& b) {
  for_each_vector(context, a.size, a.count, [&](int64_t p, int64_t i, auto load, auto store) {
    const vec first = load(a.data[p] + i), second = load(b.data[p] + i);
    store(a.data[p] + i, second);
    store(b.data[p] + i, first);
  });
}

}  // namespace fastnn::FASTNN_TABLE
