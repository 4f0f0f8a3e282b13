// Sums over the rows of a matrix, column by column, and the mean and centred squares made of them. A row is a pixel, a column a channel.
#pragma once
#include "past_caches.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Few channels still fill vectors when `fold` neighbouring rows are taken for one row of width = fold C.
struct Fold {
  int64_t fold, width;
};
constexpr int64_t tile_vectors = 4;
constexpr int64_t tile_width = tile_vectors * N_LANES;
constexpr int64_t few_rows = 16;  // summed before they join the total: less is rounded away than row by row
constexpr int64_t most_folded_width = N_LANES * tile_width;

INLINE Fold fold_rows(int64_t C) {
  int64_t fold = 1;
  while (fold * C < tile_width || (C < tile_width && fold * C % N_LANES)) fold *= 2;  // at most tile_width times
  return {fold, fold * C};
}

// Rows of a block: a multiple of every possible fold, about 128 KiB of float32, so that a pass over it again finds it in the cache.
INLINE int64_t rows_per_block(int64_t C) { return larger(tile_width, 32768 / C / tile_width * tile_width); }

// to[i] = from[i % C] for i < width
INLINE void repeat(const real* from, int64_t C, real* to, int64_t width) {
  for (int64_t i = 0; i < width; i += C) __builtin_memcpy(to + i, from, size_t(C) * sizeof(real));
}

// One tile of columns: term(row, column, t, load, store) gives the `n` addends of a vector; their sums join the totals of the rows before
// `begin`, which stay in registers through rows [begin, end).
template <int vectors, int n, class Term, class Load, class Store, class LoadSum, class StoreSum>
INLINE void sum_tile(int64_t begin, int64_t end, int64_t column, real* const (&sums)[n], const Term& term, Load load, Store store,
                     LoadSum load_sum, StoreSum store_sum) {
  vec total[vectors][n];
  UNROLL for (int v = 0; v < vectors; v++) {
    UNROLL for (int k = 0; k < n; k++) total[v][k] = begin ? load_sum(sums[k] + column + v * N_LANES) : zero();
  }
  for (; begin < end; begin += few_rows) {
    vec s[vectors][n] = {};
    for (int64_t row = begin; row < smaller(begin + few_rows, end); row++) {
      UNROLL for (int v = 0; v < vectors; v++) {
        vec t[n];
        term(row, column + v * N_LANES, t, load, store);
        UNROLL for (int k = 0; k < n; k++) s[v][k] += t[k];
      }
    }
    UNROLL for (int v = 0; v < vectors; v++) { UNROLL for (int k = 0; k < n; k++) total[v][k] += s[v][k]; }
  }
  UNROLL for (int v = 0; v < vectors; v++) { UNROLL for (int k = 0; k < n; k++) store_sum(sums[k] + column + v * N_LANES, total[v][k]); }
}

// sums[k][column] = sum over rows of the k-th addend, for `width` columns; what `term` stores of whole vectors goes past the caches where
// `past`. On vectors of 256 bits and less a few tiles go a few rows at a time, so that memory is read in its order: on longer ones 64
// channels are a single tile, and more were not measured. Parts of `few_rows` give the bits of all rows at once.
template <bool past = false, int n, class Term>
INLINE void sum_rows(int64_t rows, int64_t width, real* const (&sums)[n], const Term& term) {
  const auto whole_load = [](const auto* p) { return load(p); };
  const auto whole_store = [](auto* p, vec a) { store(past, p, a); };
  const auto store_sum = [](real* p, vec a) { store(p, a); };
  const bool in_order = vector_bytes < 64 && width > tile_width && width <= 4 * tile_width && width % N_LANES == 0;
  const int64_t stretch = in_order ? few_rows : larger(1, rows);
  int64_t begin = 0;
  do {  // once even for no rows
    const int64_t end = smaller(begin + stretch, rows);
    int64_t column = 0;
    for (; column + tile_width <= width; column += tile_width)
      sum_tile<tile_vectors>(begin, end, column, sums, term, whole_load, whole_store, whole_load, store_sum);
    for_vectors(column, width, [&](int64_t c, auto load, auto store) { sum_tile<1>(begin, end, c, sums, term, load, store, load, store); });
    begin += stretch;
  } while (begin < rows);
}

// The same over rows x C that follow each other without a gap, folded; columns of `term` run over the fold's width.
template <bool past = false, int n, class Term>
INLINE void sum_columns(int64_t rows, int64_t C, real* const (&sums)[n], const Term& term) {
  const Fold fold = fold_rows(C);
  if (fold.fold == 1) return sum_rows<past>(rows, C, sums, term);
  real lanes[n][most_folded_width];
  real* of_lanes[n];
  for (int k = 0; k < n; k++) of_lanes[k] = lanes[k];
  const int64_t full = rows / fold.fold;
  sum_rows<past>(full, fold.width, of_lanes, term);
  for_vectors(0, rows % fold.fold * C, [&](int64_t c, auto load, auto store) {  // the rows that do not fill a folded one
    vec t[n];
    term(full, c, t, load, store);
    for (int k = 0; k < n; k++) store(lanes[k] + c, load(lanes[k] + c) + t[k]);
  });
  for (int k = 0; k < n; k++) {
    for (int64_t half = fold.fold / 2; half > 0; half /= 2)
      for_vectors(0, half * C,
                  [&](int64_t c, auto load, auto store) { store(lanes[k] + c, load(lanes[k] + c) + load(lanes[k] + half * C + c)); });
    __builtin_memcpy(sums[k], lanes[k], size_t(C) * sizeof(real));
  }
}

// Per channel over one block of rows: the mean and the sum of squared distances from it, in one pass around the mean of the block's first
// eighth. That lies at most sqrt(7) deviations from the block's own (any k of n values: sqrt(n / k - 1)), so that what is subtracted in
// the end is at most seven eighths of the sum: three bits at worst, and nothing is lost when the mean is large beside the deviation.
INLINE void block_moments(const T* x, int64_t rows, int64_t C, real* mean, real* squares) {
  const int64_t width = fold_rows(C).width, first_rows = divide_up(rows, 8);
  real* const sum[1] = {mean};
  sum_columns(first_rows, C, sum, [=](int64_t row, int64_t column, vec(&t)[1], auto load, auto) { t[0] = load(x + row * width + column); });
  const real per_first = real(1) / real(first_rows), per_row = real(1) / real(rows);
  for (int64_t c = 0; c < C; c++) mean[c] *= per_first;
  real repeated[most_folded_width];
  const real* center = mean;
  if (width > C) {
    repeat(mean, C, repeated, width);
    center = repeated;
  }
  constexpr int64_t stretch = 1024;  // channels whose corrections wait on the stack
  for (int64_t first = 0; first < C; first += stretch) {
    real drift[stretch];
    const int64_t columns = smaller(stretch, C - first);
    real* const sums[2] = {drift, squares + first};
    const auto term = [=](int64_t row, int64_t column, vec(&t)[2], auto load, auto) {
      t[0] = load(x + row * width + first + column) - load(center + first + column);
      t[1] = t[0] * t[0];
    };
    if (width > C)
      sum_columns(rows, C, sums, term);
    else
      sum_rows(rows, columns, sums, term);
    for (int64_t c = 0; c < columns; c++) {
      mean[first + c] += drift[c] * per_row;
      squares[first + c] -= drift[c] * drift[c] * per_row;
    }
  }
}

// Moments of two sets of rows merged into the first (Chan, Golub, LeVeque 1979).
INLINE void combine_moments(int64_t C, int64_t rows, double* mean, double* squares, int64_t more_rows, const real* more_mean,
                            const real* more_squares) {
  const double share = double(more_rows) / double(rows + more_rows), weight = double(rows) * share;
  for (int64_t c = 0; c < C; c++) {
    const double difference = double(more_mean[c]) - mean[c];
    mean[c] += difference * share;
    squares[c] += double(more_squares[c]) + difference * difference * weight;
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
