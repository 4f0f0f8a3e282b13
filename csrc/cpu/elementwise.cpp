// exp, log, sqrt, powers; sums, differences, products, quotients, comparisons and choices with broadcasting.
#include "math.h"
#include "past_caches.h"
#include "walk.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Where the two operands of y's innermost dimension lie: one after the other (stride 1), or the same one for all (stride 0).
template <int a_step, int b_step, class Op>
void unit_row(const T* a, const T* b, T* y, int64_t n, int64_t, int64_t, bool past, Op op) {
  const vec a0 = set(*a), b0 = set(*b);
  for_vectors(0, n, past, [=](int64_t i, auto load, auto store) {
    vec left = a0, right = b0;
    if constexpr (a_step) left = load(a + i);
    if constexpr (b_step) right = load(b + i);
    store(y + i, op(left, right));
  });
}

template <class Op>
void strided_row(const T* a, const T* b, T* y, int64_t n, int64_t a_stride, int64_t b_stride, bool, Op op) {
  for (int64_t i = 0; i < n; i++) y[i] = T(op(real(a[i * a_stride]), real(b[i * b_stride])));
}

template <class Op>
using Row = void (*)(const T* a, const T* b, T* y, int64_t n, int64_t a_stride, int64_t b_stride, bool past, Op op);

template <class Op>
Row<Op> choose_row(int64_t a_stride, int64_t b_stride) {
  if (a_stride == 1 && b_stride == 1) return unit_row<1, 1, Op>;
  if (a_stride == 1 && b_stride == 0) return unit_row<1, 0, Op>;
  if (a_stride == 0 && b_stride == 1) return unit_row<0, 1, Op>;
  return strided_row<Op>;
}

int64_t elements_of(const Binary& s) {
  int64_t n = 1;
  for (int d = 0; d < s.rank; d++) n *= s.dims[d];
  return n;
}

// y as rows along its innermost dimension: long rows are cut into blocks, short ones gathered into blocks. body(offsets in a, b and y, n)
template <class F>
void for_rows(const Context& context, const Binary& s, bool past, const F& body) {
  const int outer = s.rank - 1;
  const int64_t n = s.dims[outer], a_stride = s.a_stride[outer], b_stride = s.b_stride[outer];
  if (elements_of(s) == 0) return;
  const int64_t rows = elements_of(s) / n;
  const int64_t pieces = divide_up(n, elements_per_block), piece = smaller(n, elements_per_block);
  const int64_t rows_per_block = larger(1, elements_per_block / n);
  parallel(context, divide_up(rows, rows_per_block) * pieces, [&](int64_t block, int) {
    const int64_t first = block / pieces * rows_per_block, begin = block % pieces * piece, length = smaller(piece, n - begin);
    Walk<2> walk(outer, s.dims, {s.a_stride, s.b_stride}, first);
    for (int64_t r = first; r < smaller(first + rows_per_block, rows); r++, walk.next())
      body(walk.offset[0] + begin * a_stride, walk.offset[1] + begin * b_stride, r * n + begin, length);
    finish(past);
  });
}

template <class Op>
void broadcast_each(const Context& context, const Binary& s, const T* a, const T* b, T* y, Op op) {
  const int64_t a_stride = s.a_stride[s.rank - 1], b_stride = s.b_stride[s.rank - 1];
  const Row<Op> row = choose_row<Op>(a_stride, b_stride);
  const bool past = goes_past(context, y, elements_of(s) * int64_t(sizeof(T)), s.dims[s.rank - 1]);
  for_rows(context, s, past, [=](int64_t in_a, int64_t in_b, int64_t in_y, int64_t n) {
    row(a + in_a, b + in_b, y + in_y, n, a_stride, b_stride, past, op);
  });
}

// y = op(a, b, i), i being where it lies in y
template <class Y, class Op>
void broadcast_at(const Context& context, const Binary& s, const T* a, const T* b, Y* y, Op op) {
  const int64_t a_stride = s.a_stride[s.rank - 1], b_stride = s.b_stride[s.rank - 1];
  for_rows(context, s, false, [=](int64_t in_a, int64_t in_b, int64_t in_y, int64_t n) {
    const auto run = [=](int64_t a_step, int64_t b_step) {
      for (int64_t i = 0; i < n; i++) y[in_y + i] = Y(op(a[in_a + i * a_step], b[in_b + i * b_step], in_y + i));
    };
    if (a_stride == 1 && b_stride == 1) return run(1, 1);
    if (a_stride == 1 && b_stride == 0) return run(1, 0);
    run(a_stride, b_stride);
  });
}

// For operations on single elements beside those on vectors
INLINE real select(bool condition, real a, real b) { return condition ? a : b; }
INLINE real max(real a, real b) { return a > b ? a : b; }
INLINE real min(real a, real b) { return a < b ? a : b; }

INLINE real power(real x, double exponent) {
  if (x == 0) x = __builtin_copysign(real(0), x);  // denormals too, which the library below would take as they are
  if constexpr (sizeof(real) == sizeof(float)) return __builtin_powf(float(x), float(exponent));
  return real(__builtin_pow(double(x), exponent));
}

}  // namespace

void exp(const Context& context, const Elements& s, const T* x, T* y) {
  for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, exp(load(x + i))); });
}

void log(const Context& context, const Elements& s, const T* x, T* y) {
  for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, log(load(x + i))); });
}

void sqrt(const Context& context, const Elements& s, const T* x, T* y) {
  for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, sqrt(load(x + i))); });
}

void power(const Context& context, const Power& s, const T* x, T* y) {
  const auto each = [&](auto f) { for_results(context, s.n, y, [=](int64_t i, auto load, auto store) { store(y + i, f(load(x + i))); }); };
  const double exponent = s.exponent;
  if (exponent == 1) return each([](vec v) { return v; });
  if (exponent == 2) return each([](vec v) { return v * v; });
  if (exponent == 3) return each([](vec v) { return v * v * v; });
  if (exponent == 0.5) return each([](vec v) { return sqrt(v); });
  if (exponent == -0.5) return each([](vec v) { return set(1) / sqrt(v); });
  if (exponent == -1) return each([](vec v) { return set(1) / v; });
  if (exponent == -2) return each([](vec v) { return (set(1) / v) * (set(1) / v); });  // v * v may overflow where the result does not
  for_blocks(context, s.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = T(power(x[i], exponent));
  });
}

void add(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return left + right; });
}

void subtract(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return left - right; });
}

void multiply(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return left * right; });
}

void divide(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return left / right; });
}

void maximum(const Context& context, const Binary& s, const T* a, const T* b, T* y) {  // NaN wins
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return select(left == left, max(left, right), left); });
}

void minimum(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto left, auto right) { return select(left == left, min(left, right), left); });
}

void prelu_forward(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto x, auto slope) { return select(x > decltype(x){}, x, slope * x); });
}

void prelu_slope(const Context& context, const Binary& s, const T* a, const T* b, T* y) {
  broadcast_each(context, s, a, b, y, [](auto x, auto dy) { return select(x > decltype(x){}, decltype(x){}, dy * x); });
}

void prelu_backward(const Context& context, const Binary& s, const T* a, const T* b, const T* dy, T* da) {
  broadcast_at(context, s, a, b, da, [=](real x, real slope, int64_t i) { return x > 0 ? dy[i] : slope * dy[i]; });
}

void where(const Context& context, const Binary& s, const b8* condition, const T* a, const T* b, T* y) {
  broadcast_at(context, s, a, b, y, [=](real left, real right, int64_t i) { return condition[i] ? left : right; });
}

void compare(const Context& context, const Compare& s, const T* a, const T* b, b8* y) {
  const auto each = [&](auto holds) {
    broadcast_at(context, s, a, b, y, [=](real left, real right, int64_t) { return holds(left, right); });
  };
  switch (s.comparison) {
    case Comparison::equal: return each([](real left, real right) { return left == right; });
    case Comparison::not_equal: return each([](real left, real right) { return left != right; });
    case Comparison::less: return each([](real left, real right) { return left < right; });
    case Comparison::less_equal: return each([](real left, real right) { return left <= right; });
    case Comparison::greater: return each([](real left, real right) { return left > right; });
    case Comparison::greater_equal: return each([](real left, real right) { return left >= right; });
  }
}

}  // namespace fastnn::FASTNN_TABLE
