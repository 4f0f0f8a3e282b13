// exp, log, sqrt, powers, and sums, differences, products and quotients with broadcasting.
#include "elements.h"
#include "math.h"
#include "walk.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Where the two operands of y's innermost dimension lie: one after the other (stride 1), or the same one for all (stride 0).
template <int a_step, int b_step, class Op>
void unit_row(const T* a, const T* b, T* y, int64_t n, int64_t, int64_t, Op op) {
  const vec a0 = set(*a), b0 = set(*b);
  for_vectors(0, n, [=](int64_t i, auto load, auto store) {
    vec left = a0, right = b0;
    if constexpr (a_step) left = load(a + i);
    if constexpr (b_step) right = load(b + i);
    store(y + i, op(left, right));
  });
}

template <class Op>
void strided_row(const T* a, const T* b, T* y, int64_t n, int64_t a_stride, int64_t b_stride, Op op) {
  for (int64_t i = 0; i < n; i++) y[i] = op(a[i * a_stride], b[i * b_stride]);
}

template <class Op>
using Row = void (*)(const T* a, const T* b, T* y, int64_t n, int64_t a_stride, int64_t b_stride, Op op);

template <class Op>
Row<Op> choose_row(int64_t a_stride, int64_t b_stride) {
  if (a_stride == 1 && b_stride == 1) return unit_row<1, 1, Op>;
  if (a_stride == 1 && b_stride == 0) return unit_row<1, 0, Op>;
  if (a_stride == 0 && b_stride == 1) return unit_row<0, 1, Op>;
  return strided_row<Op>;
}

// y as rows along its innermost dimension: long rows are cut into blocks, short ones gathered into blocks.
template <class Op>
void broadcast_each(const Context& context, const Binary& s, const T* a, const T* b, T* y, Op op) {
  const int outer = s.rank - 1;
  const int64_t n = s.dims[outer], a_stride = s.a_stride[outer], b_stride = s.b_stride[outer];
  int64_t rows = 1;
  for (int d = 0; d < outer; d++) rows *= s.dims[d];
  if (rows * n == 0) return;
  const Row<Op> row = choose_row<Op>(a_stride, b_stride);
  const int64_t pieces = divide_up(n, elements_per_block), piece = smaller(n, elements_per_block);
  const int64_t rows_per_block = larger(1, elements_per_block / n);
  parallel(context, divide_up(rows, rows_per_block) * pieces, [&](int64_t block, int) {
    const int64_t first = block / pieces * rows_per_block, begin = block % pieces * piece, length = smaller(piece, n - begin);
    Walk<2> walk(outer, s.dims, {s.a_stride, s.b_stride}, first);
    for (int64_t r = first; r < smaller(first + rows_per_block, rows); r++, walk.next())
      row(a + walk.offset[0] + begin * a_stride, b + walk.offset[1] + begin * b_stride, y + r * n + begin, length, a_stride, b_stride, op);
  });
}

INLINE real power(real x, double exponent) {
  if constexpr (sizeof(real) == sizeof(float)) return __builtin_powf(float(x), float(exponent));
  return real(__builtin_pow(double(x), exponent));
}

}  // namespace

void exp(const Context& context, const Elements& s, const T* x, T* y) {
  for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, exp(load(x + i))); });
}

void log(const Context& context, const Elements& s, const T* x, T* y) {
  for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, log(load(x + i))); });
}

void sqrt(const Context& context, const Elements& s, const T* x, T* y) {
  for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, sqrt(load(x + i))); });
}

void power(const Context& context, const Power& s, const T* x, T* y) {
  const auto each = [&](auto f) { for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, f(load(x + i))); }); };
  const double exponent = s.exponent;
  if (exponent == 1) return each([](vec v) { return v; });
  if (exponent == 2) return each([](vec v) { return v * v; });
  if (exponent == 3) return each([](vec v) { return v * v * v; });
  if (exponent == 0.5) return each([](vec v) { return sqrt(v); });
  if (exponent == -0.5) return each([](vec v) { return set(1) / sqrt(v); });
  if (exponent == -1) return each([](vec v) { return set(1) / v; });
  if (exponent == -2) return each([](vec v) { return (set(1) / v) * (set(1) / v); });  // v * v may overflow where the result does not
  for_blocks(context, s.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = power(x[i], exponent);
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

}  // namespace fastnn::FASTNN_TABLE
