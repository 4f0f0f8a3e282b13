// What a row of n neighbours holds: its largest element, sums of terms over it, log-sum-exp; and work over many rows in blocks.
#pragma once
#include "elements.h"
#include "math.h"
#include "sum_lanes.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE ivec lanes_before(int64_t n) {
  ivec lane;
  for (int i = 0; i < N_LANES; i++) lane[i] = integer(i);
  return lane < integer(n);
}

// A vector of the row's last `left` elements whose missing lanes read as `filler`, and one whose missing lanes are made 0.
template <class Load>
INLINE vec load_filled(const T* p, int64_t left, real filler, Load load) {
  const vec v = load(p);
  return left >= N_LANES ? v : select(lanes_before(left), v, set(filler));
}
INLINE vec cut_off(vec v, int64_t left) { return left >= N_LANES ? v : select(lanes_before(left), v, zero()); }

INLINE real largest(const T* z, int64_t n) {
  vec m = set(-infinity);
  for_vectors(0, n, [&](int64_t c, auto load, auto) { m = max(m, load_filled(z + c, n - c, -infinity, load)); });
  real top[N_LANES];
  store(top, m);
  UNROLL for (int half = N_LANES / 2; half > 0; half /= 2)  // one lane after the other took longer than the rest
      UNROLL for (int i = 0; i < half; i++) top[i] = top[i] > top[i + half] ? top[i] : top[i + half];
  return top[0];
}

// The sum of term(c, load, store) over the vectors of [begin, end): in `real` over short stretches, in float64 over those.
template <class F>
INLINE double sum_terms(int64_t begin, int64_t end, const F& term) {
  constexpr int64_t stretch = 64 * N_LANES;
  double sum = 0;
  for (int64_t first = begin; first < end; first += stretch) {
    vec total{};
    for_vectors(first, smaller(first + stretch, end), [&](int64_t c, auto load, auto store) { total += term(c, load, store); });
    sum += double(sum_lanes(total));
  }
  return sum;
}

INLINE double sum_exp(const T* z, int64_t n, real top) {
  return sum_terms(0, n, [&](int64_t c, auto load, auto) { return exp(load_filled(z + c, n - c, -infinity, load) - set(top)); });
}

// log sum exp z = top + log_sum
struct LogSumExp {
  real top;
  double log_sum;
  INLINE LogSumExp(const T* z, int64_t n) : top(largest(z, n)), log_sum(__builtin_log(sum_exp(z, n, top))) {}
};

// Rows of a block: at least 256th parts of them all where `most_blocks` sums wait on the stack; a function of the shape alone.
constexpr int64_t most_blocks = 256;
INLINE int64_t rows_of_block(int64_t n) { return larger(1, elements_per_block / 4 / larger(1, n)); }

// body(row) for `rows` rows of n elements
template <class F>
INLINE void for_rows(const Context& context, int64_t rows, int64_t n, const F& body) {
  const int64_t per_block = rows_of_block(n);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t i = block * per_block; i < smaller((block + 1) * per_block, rows); i++) body(i);
  });
}

// A sample's loss and how much it counts in the mean, or the sums of both
struct Counted {
  double loss = 0, weight = 0;
  INLINE void operator+=(const Counted& more) { loss += more.loss, weight += more.weight; }
};

// The sum of body(row)
template <class F>
INLINE Counted add_rows(const Context& context, int64_t rows, int64_t n, const F& body) {
  const int64_t per_block = larger(rows_of_block(n), divide_up(rows, most_blocks)), blocks = divide_up(rows, per_block);
  Counted sums[most_blocks], total;
  parallel(context, blocks, [&](int64_t block, int) {
    Counted sum;
    for (int64_t i = block * per_block; i < smaller((block + 1) * per_block, rows); i++) sum += body(i);
    sums[block] = sum;
  });
  for (int64_t block = 0; block < blocks; block++) total += sums[block];
  return total;
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
