// Sums and maxima over any set of dimensions. x is dense, so its innermost dimension is either kept, and vectors run over outputs side by
// side ("columns"), or reduced, and they run along one output.
#include "elements.h"
#include "math.h"
#include "moments.h"
#include "sum_lanes.h"
#include "walk.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_columns = 512;  // of a block: what it adds up in float64 waits on the stack

// How a reduction is cut into blocks: a group of `width` outputs side by side x a piece of its columns x a chunk of what is reduced.
// A chunk is a fixed number of elements; the sums of several are combined in order.
struct Cut {
  int64_t width, groups, groups_per_block, columns, pieces, chunk, chunks;
  int64_t run, run_stride;  // the innermost reduced dimension
  int outer_kept, outer_reduced;
};

Cut cut_of(const Reduce& s) {
  Cut cut;
  const bool side_by_side = s.kept_rank > 0 && s.kept_stride[s.kept_rank - 1] == 1;
  cut.width = side_by_side ? s.kept[s.kept_rank - 1] : 1;
  cut.groups = cut.width ? s.kept_count / cut.width : 0;
  cut.outer_kept = s.kept_rank - side_by_side;
  cut.outer_reduced = larger(0, s.reduced_rank - 1);
  cut.run = s.reduced_rank ? s.reduced[s.reduced_rank - 1] : 1;
  cut.run_stride = s.reduced_rank ? s.reduced_stride[s.reduced_rank - 1] : 1;
  cut.columns = smaller(cut.width, most_columns);
  cut.pieces = cut.columns ? divide_up(cut.width, cut.columns) : 0;
  cut.chunk = larger(256, elements_per_block / larger(1, cut.columns));
  cut.chunks = larger(1, divide_up(s.reduced_count, cut.chunk));
  const bool whole = cut.chunks == 1 && cut.pieces == 1;
  cut.groups_per_block = whole ? larger(1, elements_per_block / larger(1, cut.width * s.reduced_count)) : 1;
  return cut;
}

// body(x offset, length) for the runs of elements [begin, end) of what is reduced
template <class F>
INLINE void for_runs(const Reduce& s, const Cut& cut, int64_t begin, int64_t end, const F& body) {
  if (begin >= end) return;
  Walk<1> walk(cut.outer_reduced, s.reduced, {s.reduced_stride}, begin / cut.run);
  for (int64_t start = begin % cut.run; begin < end; start = 0, walk.next()) {
    const int64_t length = smaller(cut.run - start, end - begin);
    body(walk.offset[0] + start * cut.run_stride, length);
    begin += length;
  }
}

// Sum of n elements side by side
INLINE real sum_contiguous(const T* x, int64_t n) {
  vec s[4] = {};
  int64_t i = 0;
  for (; i + 4 * N_LANES <= n; i += 4 * N_LANES) UNROLL for (int v = 0; v < 4; v++) s[v] += load(x + i + v * N_LANES);
  for_vectors(i, n, [&](int64_t j, auto load, auto) { s[0] += load(x + j); });
  return sum_lanes((s[0] + s[1]) + (s[2] + s[3]));
}

// total[c] += sum of n rows for `columns` outputs side by side, in float64 every 128 rows: the error hardly grows with n.
INLINE void sum_run(const T* x, int64_t n, int64_t stride, int64_t columns, double* total) {
  const Fold fold = stride == columns ? fold_rows(columns) : Fold{1, stride};
  const int64_t stretch = 128 * fold.fold;
  for (int64_t first = 0; first < n; first += stretch) {
    real part[most_columns];
    real* const sums[1] = {part};
    const T* top = x + first * stride;
    const int64_t rows = smaller(stretch, n - first), width = fold.width;
    if (stride == 1 && columns == 1) {
      *total += double(sum_contiguous(top, rows));
      continue;
    }
    const auto term = [=](int64_t row, int64_t c, vec(&t)[1], auto load, auto) { t[0] = load(top + row * width + c); };
    if (fold.fold > 1)
      sum_columns(rows, columns, sums, term);
    else
      sum_rows(rows, columns, sums, term);
    for (int64_t c = 0; c < columns; c++) total[c] += double(part[c]);
  }
}

// total[c] = sum over elements [begin, end) of what is reduced
INLINE void sum_chunk(const Reduce& s, const Cut& cut, const T* x, int64_t columns, int64_t begin, int64_t end, double* total) {
  for (int64_t c = 0; c < columns; c++) total[c] = 0;
  for_runs(s, cut, begin, end, [&](int64_t offset, int64_t length) { sum_run(x + offset, length, cut.run_stride, columns, total); });
}

// The best so far: NaN before every number, the larger number before the smaller, the earlier before the later.
struct Best {
  real value = -infinity;
  int64_t at = INT64_MAX;
};

INLINE bool is_nan(real v) { return v != v; }

INLINE void take_better(Best& best, real value, int64_t at) {
  const bool earlier = at < best.at;
  const bool better =
      is_nan(best.value) ? is_nan(value) && earlier : is_nan(value) || value > best.value || (value == best.value && earlier);
  if (better) best.value = value, best.at = at;
}

// The best of n elements, `stride` apart, the first of them element `at` of what is reduced
INLINE void max_run(const T* x, int64_t n, int64_t stride, int64_t at, Best& best) {
  int64_t i = 0;
  if (stride == 1 && n >= 2 * N_LANES) {
    vec values = load(x);
    ivec rounds{};
    integer round = 1;
    for (i = N_LANES; i + N_LANES <= n; i += N_LANES, round++) {
      const vec v = load(x + i);
      const ivec better = ~(v <= values) & (values == values);
      values = select(better, v, values);
      rounds = (better & (round - ivec{})) | (~better & rounds);
    }
    for (int lane = 0; lane < N_LANES; lane++) take_better(best, values[lane], at + int64_t(rounds[lane]) * N_LANES + lane);
  }
  for (; i < n; i++) take_better(best, x[i * stride], at + i);
}

// The best of n rows for each of N_LANES columns at most, rows `stride` apart
template <class Load>
INLINE void max_rows(const T* x, int64_t n, int64_t stride, int64_t at, int columns, Best* best, Load load) {
  vec values = load(x);
  ivec rows{};
  for (int64_t row = 1; row < n; row++) {
    const vec v = load(x + row * stride);
    const ivec better = ~(v <= values) & (values == values);
    values = select(better, v, values);
    rows = (better & (integer(row) - ivec{})) | (~better & rows);
  }
  for (int c = 0; c < columns; c++) take_better(best[c], values[c], at + int64_t(rows[c]));
}

// The best of elements [begin, end) of what is reduced, for n <= N_LANES outputs side by side
INLINE void max_chunk(const Reduce& s, const Cut& cut, const T* x, int n, int64_t begin, int64_t end, Best* best) {
  int64_t at = begin;
  for_runs(s, cut, begin, end, [&](int64_t offset, int64_t length) {
    const T* run = x + offset;
    if (cut.width == 1)
      max_run(run, length, cut.run_stride, at, *best);
    else if (n == N_LANES)
      max_rows(run, length, cut.run_stride, at, n, best, [](const T* p) { return load(p); });
    else
      max_rows(run, length, cut.run_stride, at, n, best, [n](const T* p) { return load_n(p, n); });
    at += length;
  });
}

// One number out of the whole of x: chunks in parallel, their best in order.
void max_of_all(const Context& context, const Reduce& s, const Cut& cut, const T* x, T* y, i64* index) {
  constexpr int64_t most_chunks = 64;
  Best best[most_chunks];
  const int64_t chunk = larger(elements_per_block, divide_up(s.reduced_count, most_chunks)), chunks = divide_up(s.reduced_count, chunk);
  parallel(context, chunks,
           [&](int64_t k, int) { max_chunk(s, cut, x, 1, k * chunk, smaller((k + 1) * chunk, s.reduced_count), best + k); });
  for (int64_t k = 1; k < chunks; k++) take_better(best[0], best[k].value, best[k].at);
  *y = T(best[0].value), *index = best[0].at;
}

}  // namespace

Plan sum_plan(const Context&, const Reduce& s) {
  const Cut cut = cut_of(s);
  return {cut.chunks == 1 ? "whole" : "chunks", cut.chunks == 1 ? 0 : cut.chunks * s.kept_count * int64_t(sizeof(double))};
}

void sum(const Context& context, const Reduce& s, const T* x, T* y, void* scratch) {
  if (s.kept_count == 0) return;
  const Cut cut = cut_of(s);
  double* const partial = static_cast<double*>(scratch);  // [chunk][output]
  const int64_t out_stride = s.kept_rank ? s.kept_out_stride[s.kept_rank - 1] : 1;
  const int64_t tasks = divide_up(cut.groups, cut.groups_per_block);
  parallel(context, tasks * cut.pieces * cut.chunks, [&](int64_t block, int) {
    const int64_t chunk = block % cut.chunks, column = block / cut.chunks % cut.pieces * cut.columns;
    const int64_t first = block / cut.chunks / cut.pieces * cut.groups_per_block, columns = smaller(cut.columns, cut.width - column);
    const int64_t begin = chunk * cut.chunk, end = smaller(begin + cut.chunk, s.reduced_count);
    Walk<2> walk(cut.outer_kept, s.kept, {s.kept_stride, s.kept_out_stride}, first);
    for (int64_t group = first; group < smaller(first + cut.groups_per_block, cut.groups); group++, walk.next()) {
      double total[most_columns];
      sum_chunk(s, cut, x + walk.offset[0] + column, columns, begin, end, total);
      if (cut.chunks > 1)
        __builtin_memcpy(partial + chunk * s.kept_count + group * cut.width + column, total, size_t(columns) * sizeof(double));
      else if (cut.width == 1)
        y[walk.offset[1]] = T(total[0]);
      else
        for (int64_t c = 0; c < columns; c++) y[walk.offset[1] + (column + c) * out_stride] = T(total[c]);
    }
  });
  if (cut.chunks == 1) return;
  for_blocks(context, s.kept_count, [&](int64_t begin, int64_t end) {
    Walk<1> walk(s.kept_rank, s.kept, {s.kept_out_stride}, begin);
    for (int64_t i = begin; i < end; i++, walk.next()) {
      double total = 0;
      for (int64_t chunk = 0; chunk < cut.chunks; chunk++) total += partial[chunk * s.kept_count + i];
      y[walk.offset[0]] = T(total);
    }
  });
}

Plan max_forward_plan(const Context&, const Reduce&) { return {"whole", 0}; }

void max_forward(const Context& context, const Reduce& s, const T* x, T* y, i64* index, void*) {
  if (s.kept_count == 0) return;
  const Cut cut = cut_of(s);
  if (s.kept_count == 1) return max_of_all(context, s, cut, x, y, index);
  const int64_t out_stride = s.kept_rank ? s.kept_out_stride[s.kept_rank - 1] : 1;
  const int64_t vectors = divide_up(cut.width, N_LANES), tasks = cut.groups * vectors;
  const int64_t per_block = larger(1, elements_per_block / larger(1, s.reduced_count * smaller(cut.width, N_LANES)));
  parallel(context, divide_up(tasks, per_block), [&](int64_t block, int) {
    for (int64_t task = block * per_block; task < smaller((block + 1) * per_block, tasks); task++) {
      const int64_t column = task % vectors * N_LANES;
      const int n = int(smaller(N_LANES, cut.width - column));
      const Walk<2> walk(cut.outer_kept, s.kept, {s.kept_stride, s.kept_out_stride}, task / vectors);
      Best best[N_LANES];
      max_chunk(s, cut, x + walk.offset[0] + column, n, 0, s.reduced_count, best);
      for (int c = 0; c < n; c++) {
        const int64_t out = walk.offset[1] + (cut.width == 1 ? 0 : (column + c) * out_stride);
        y[out] = T(best[c].value), index[out] = best[c].at;
      }
    }
  });
}

void max_backward(const Context& context, const Reduce& s, const i64* index, const T* dy, T* dx) {
  const int64_t n = s.kept_count * s.reduced_count;
  for_blocks(context, n, [=](int64_t begin, int64_t end) { __builtin_memset(dx + begin, 0, size_t(end - begin) * sizeof(T)); });
  if (n == 0) return;
  for_blocks(context, s.kept_count, [&](int64_t begin, int64_t end) {
    Walk<2> walk(s.kept_rank, s.kept, {s.kept_stride, s.kept_out_stride}, begin);
    for (int64_t i = begin; i < end; i++, walk.next()) {
      const Walk<1> winner(s.reduced_rank, s.reduced, {s.reduced_stride}, index[walk.offset[1]]);
      dx[walk.offset[0] + winner.offset[0]] = dy[walk.offset[1]];
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
