// Softmax, its logarithm and log-sum-exp along one axis, the largest element taken out. Where the elements of a row are neighbours,
// vectors run along it; else rows are columns side by side, and a vector takes N_LANES of them.
#include "rows.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// row(i) for each row of neighbours; or column(offset, at, load, store) for up to N_LANES rows side by side that begin at an offset in x
// and are numbered from `at` in their order in memory
template <class Row, class Column>
INLINE void along_axis(const Context& context, const Softmax& s, const Row& row, const Column& column) {
  if (s.inner == 1) return for_rows(context, s.outer, s.n, row);
  const int64_t vectors = divide_up(s.inner, N_LANES);
  for_rows(context, s.outer * vectors, s.n * N_LANES, [&](int64_t task) {
    const int64_t group = task / vectors, first = task % vectors * N_LANES, at = group * s.inner + first;
    const int64_t offset = group * s.n * s.inner + first;
    if (const int n = int(smaller(N_LANES, s.inner - first)); n == N_LANES)
      column(offset, at, [](const T* p) { return load(p); }, [](T* p, vec v) { store(p, v); });
    else
      column(offset, at, [n](const T* p) { return load_n(p, n); }, [n](T* p, vec v) { store_n(p, n, v); });
  });
}

// The sum of term(i) over i in [0, n), a column of each lane: short sums are added up, less is rounded away
template <class F>
INLINE vec sum_down(int64_t n, const F& term) {
  constexpr int64_t stretch = 64;
  vec total{};
  for (int64_t first = 0; first < n; first += stretch) {
    vec sum{};
    for (int64_t i = first; i < smaller(first + stretch, n); i++) sum += term(i);
    total += sum;
  }
  return total;
}

template <class Load>
INLINE vec largest_down(const T* x, int64_t n, int64_t step, Load load) {
  vec top = set(-infinity);
  for (int64_t i = 0; i < n; i++) top = max(top, load(x + i * step));
  return top;
}

INLINE bool is_finite(real a) { return a - a == 0; }

}  // namespace

void softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const T* in = x + row * s.n;
        T* out = y + row * s.n;
        const vec top = set(largest(in, s.n));
        const double sum = sum_terms(0, s.n, [&](int64_t i, auto load, auto store) {
          const vec e = exp(load(in + i) - top);
          store(out + i, e);
          return cut_off(e, s.n - i);
        });
        const vec share = set(real(1 / sum));
        for_vectors(0, s.n, [&](int64_t i, auto load, auto store) { store(out + i, load(out + i) * share); });
      },
      [&](int64_t offset, int64_t, auto load, auto store) {
        const T* in = x + offset;
        T* out = y + offset;
        const vec top = largest_down(in, s.n, s.inner, load);
        const vec sum = sum_down(s.n, [&](int64_t i) {
          const vec e = exp(load(in + i * s.inner) - top);
          store(out + i * s.inner, e);
          return e;
        });
        const vec share = set(1) / sum;
        for (int64_t i = 0; i < s.n; i++) store(out + i * s.inner, load(out + i * s.inner) * share);
      });
}

// dx = y (dy - sum y dy)
void softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const int64_t at = row * s.n;
        const vec sum = set(real(sum_terms(0, s.n, [&](int64_t i, auto load, auto) { return load(y + at + i) * load(dy + at + i); })));
        for_vectors(at, at + s.n, [&](int64_t i, auto load, auto store) { store(dx + i, load(y + i) * (load(dy + i) - sum)); });
      },
      [&](int64_t offset, int64_t, auto load, auto store) {
        const auto at = [&](int64_t i) { return offset + i * s.inner; };
        const vec sum = sum_down(s.n, [&](int64_t i) { return load(y + at(i)) * load(dy + at(i)); });
        for (int64_t i = 0; i < s.n; i++) store(dx + at(i), load(y + at(i)) * (load(dy + at(i)) - sum));
      });
}

void log_softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const int64_t at = row * s.n;
        const LogSumExp lse(x + at, s.n);
        const vec top = set(lse.top), log_sum = set(real(lse.log_sum));
        for_vectors(at, at + s.n, [&](int64_t i, auto load, auto store) { store(y + i, (load(x + i) - top) - log_sum); });
      },
      [&](int64_t offset, int64_t, auto load, auto store) {
        const auto at = [&](int64_t i) { return offset + i * s.inner; };
        const vec top = largest_down(x + offset, s.n, s.inner, load);
        const vec log_sum = log(sum_down(s.n, [&](int64_t i) { return exp(load(x + at(i)) - top); }));
        for (int64_t i = 0; i < s.n; i++) store(y + at(i), (load(x + at(i)) - top) - log_sum);
      });
}

// dx = dy - e^y sum dy
void log_softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const int64_t at = row * s.n;
        const vec sum = set(real(sum_terms(at, at + s.n, [&](int64_t i, auto load, auto) { return load(dy + i); })));
        for_vectors(at, at + s.n, [&](int64_t i, auto load, auto store) { store(dx + i, fma(-exp(load(y + i)), sum, load(dy + i))); });
      },
      [&](int64_t offset, int64_t, auto load, auto store) {
        const auto at = [&](int64_t i) { return offset + i * s.inner; };
        const vec sum = sum_down(s.n, [&](int64_t i) { return load(dy + at(i)); });
        for (int64_t i = 0; i < s.n; i++) store(dx + at(i), fma(-exp(load(y + at(i))), sum, load(dy + at(i))));
      });
}

// An infinite top is not taken out: infinity less infinity is no number.
void logsumexp_forward(const Context& context, const Softmax& s, const T* x, T* y) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const real highest = largest(x + row * s.n, s.n), top = is_finite(highest) ? highest : 0;
        y[row] = T(double(top) + __builtin_log(sum_exp(x + row * s.n, s.n, top)));
      },
      [&](int64_t offset, int64_t at, auto load, auto store) {
        const vec highest = largest_down(x + offset, s.n, s.inner, load), top = select(highest - highest == zero(), highest, zero());
        store(y + at, top + log(sum_down(s.n, [&](int64_t i) { return exp(load(x + offset + i * s.inner) - top); })));
      });
}

// dx = dy e^(x - y)
void logsumexp_backward(const Context& context, const Softmax& s, const T* x, const T* y, const T* dy, T* dx) {
  along_axis(
      context, s,
      [&](int64_t row) {
        const vec lse = set(y[row]), d = set(dy[row]);
        for_vectors(row * s.n, (row + 1) * s.n, [&](int64_t i, auto load, auto store) { store(dx + i, d * exp(load(x + i) - lse)); });
      },
      [&](int64_t offset, int64_t at, auto load, auto store) {
        const vec lse = load(y + at), d = load(dy + at);
        for (int64_t i = offset; i < offset + s.n * s.inner; i += s.inner) store(dx + i, d * exp(load(x + i) - lse));
      });
}

}  // namespace fastnn::FASTNN_TABLE
