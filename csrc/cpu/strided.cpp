// A strided view made dense, and the way back.
#include "elements.h"
#include "transpose.h"
#include "walk.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t tile = 16;                         // of a transposition: 16 lines of the cache on either side
constexpr bool squares = sizeof(T) == sizeof(real);  // numbers that registers hold as they lie in memory

// Numbers from N_LANES places, `from_step` apart, transposed to as many places, `to_step` apart.
INLINE void move_square(const T* from, int64_t from_step, T* to, int64_t to_step) {
  vec square[N_LANES];
  UNROLL for (int i = 0; i < N_LANES; i++) square[i] = load(from + i * from_step);
  transpose(square);
  UNROLL for (int i = 0; i < N_LANES; i++) store(to + i * to_step, square[i]);
}

// Moves one element, one run of the innermost dimension, or a square in which the dense side and the strided side run across each other:
// numbers side by side lie `strided_step` and `dense_step` apart on the other side.
struct ToDense {
  const T* strided;
  T* dense;
  INLINE void element(int64_t from, int64_t to) const { dense[to] = strided[from]; }
  INLINE void run(int64_t from, int64_t to, int64_t n) const { __builtin_memcpy(dense + to, strided + from, size_t(n) * sizeof(T)); }
  INLINE void square(int64_t from, int64_t strided_step, int64_t to, int64_t dense_step) const {
    move_square(strided + from, strided_step, dense + to, dense_step);
  }
};

struct ToStrided {
  T* strided;
  const T* dense;
  INLINE void element(int64_t from, int64_t to) const { strided[from] = dense[to]; }
  INLINE void run(int64_t from, int64_t to, int64_t n) const { __builtin_memcpy(strided + from, dense + to, size_t(n) * sizeof(T)); }
  INLINE void square(int64_t from, int64_t strided_step, int64_t to, int64_t dense_step) const {
    move_square(dense + to, dense_step, strided + from, strided_step);
  }
};

// The view as planes rows x columns: columns are its innermost dimension, rows the dimension whose elements lie side by side in x, if there
// is one besides; the dimensions left are outer ones.
struct Planes {
  int rank;  // of the outer dimensions
  int64_t dims[max_rank], strided[max_rank], dense[max_rank];
  int64_t count, rows, columns, row_strided, row_dense, column_strided;
};

Planes planes_of(const Strided& view) {
  struct {
    int rank = 0;
    int64_t dims[max_rank], stride[max_rank];
  } s;
  for (int d = 0; d < view.rank; d++) {  // dimensions that follow each other on both sides are one
    if (view.dims[d] == 1) continue;
    const bool follows = s.rank && s.stride[s.rank - 1] == view.stride[d] * view.dims[d];
    const int at = follows ? s.rank - 1 : s.rank++;
    s.dims[at] = follows ? s.dims[at] * view.dims[d] : view.dims[d], s.stride[at] = view.stride[d];
  }
  const int inner = s.rank - 1;
  int64_t dense[max_rank], step = 1;
  for (int d = inner; d >= 0; d--) dense[d] = step, step *= s.dims[d];
  int across = inner - 1;
  for (int d = 0; d < inner; d++)
    if (s.stride[d] == 1) across = d;
  Planes p = {0, {}, {}, {}, 1, 1, 1, 0, 0, 1};
  if (inner >= 0) p.columns = s.dims[inner], p.column_strided = s.stride[inner];
  if (across >= 0) p.rows = s.dims[across], p.row_strided = s.stride[across], p.row_dense = dense[across];
  for (int d = 0; d < inner; d++) {
    if (d == across) continue;
    p.dims[p.rank] = s.dims[d], p.strided[p.rank] = s.stride[d], p.dense[p.rank] = dense[d], p.rank++;
    p.count *= s.dims[d];
  }
  return p;
}

// rows [begin, end) of a plane
template <class Move>
INLINE void move_rows(const Planes& p, const Move& move, int64_t strided, int64_t dense, int64_t begin, int64_t end) {
  if (p.column_strided == 1) {
    for (int64_t r = begin; r < end; r++) move.run(strided + r * p.row_strided, dense + r * p.row_dense, p.columns);
    return;
  }
  for (int64_t top = begin; top < end; top += tile) {
    for (int64_t left = 0; left < p.columns; left += tile) {
      if (squares && p.row_strided == 1 && top + tile <= end && left + tile <= p.columns) {
        for (int64_t r = top; r < top + tile; r += N_LANES)
          for (int64_t c = left; c < left + tile; c += N_LANES)
            move.square(strided + r + c * p.column_strided, p.column_strided, dense + r * p.row_dense + c, p.row_dense);
        continue;
      }
      for (int64_t r = top; r < smaller(top + tile, end); r++)
        for (int64_t c = left; c < smaller(left + tile, p.columns); c++)
          move.element(strided + r * p.row_strided + c * p.column_strided, dense + r * p.row_dense + c);
    }
  }
}

// Blocks are pieces of a plane, or several planes where they are small.
template <class Move>
void move_all(const Context& context, const Strided& s, const Move& move) {
  const Planes p = planes_of(s);
  if (p.count * p.rows * p.columns == 0) return;
  const int64_t rows = larger(1, elements_per_block / p.columns), pieces = divide_up(p.rows, rows);
  const int64_t planes = larger(1, elements_per_block / (p.rows * p.columns));
  parallel(context, divide_up(p.count, planes) * pieces, [&](int64_t block, int) {
    const int64_t first = block / pieces * planes, begin = block % pieces * rows;
    Walk<2> walk(p.rank, p.dims, {p.strided, p.dense}, first);
    for (int64_t plane = first; plane < smaller(first + planes, p.count); plane++, walk.next())
      move_rows(p, move, s.offset + walk.offset[0], walk.offset[1], begin, smaller(begin + rows, p.rows));
  });
}

int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int d = 0; d < shape.rank; d++) n *= shape.d[d];
  return n;
}

}  // namespace

void copy(const Context& context, const Strided& s, const T* x, T* y) { move_all(context, s, ToDense{x, y}); }

void paste(const Context& context, const Strided& s, const T* part, T* whole) { move_all(context, s, ToStrided{whole, part}); }

void copy_backward(const Context& context, const Strided& s, const T* dy, T* dx) {
  const int64_t n = count(s.x);
  if (n != count(s.y))  // elements outside of the view
    for_blocks(context, n, [=](int64_t begin, int64_t end) { __builtin_memset(dx + begin, 0, size_t(end - begin) * sizeof(T)); });
  move_all(context, s, ToStrided{dx, dy});
}

}  // namespace fastnn::FASTNN_TABLE
