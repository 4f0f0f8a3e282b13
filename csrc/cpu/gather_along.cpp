// Elements taken along an axis by their index, and the sum of gradients back to where they came from.
#include "elements.h"
#include "walk.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Lines and axis in the order of y's memory, for Walk: offsets in y, x (at index 0) and index.
struct Paths {
  int rank = 0;
  int64_t dims[max_rank], y[max_rank], x[max_rank], index[max_rank];
  void add(int64_t n, int64_t y_step, int64_t x_step, int64_t index_step) {
    dims[rank] = n, y[rank] = y_step, x[rank] = x_step, index[rank] = index_step, rank++;
  }
};

Paths paths_of(const GatherAlong& s) {
  Paths p;
  const bool axis_first = s.rank > 0 && s.y_stride[s.rank - 1] < s.y_step;
  const auto add_axis = [&] { p.add(s.count, s.y_step, 0, s.flat ? 1 : s.y_step); };
  if (axis_first) add_axis();
  for (int d = 0; d < s.rank; d++) p.add(s.dims[d], s.y_stride[d], s.x_stride[d], s.flat ? 0 : s.y_stride[d]);
  if (!axis_first) add_axis();
  return p;
}

constexpr int64_t lines_at_once = 128;

// The gradients of lines [begin, end), which nobody else adds to: in the order of the index
INLINE void add_lines(const GatherAlong& s, const i64* index, const T* dy, T* dx, int64_t begin, int64_t end) {
  int64_t from[lines_at_once], to[lines_at_once];
  Walk<2> walk(s.rank, s.dims, {s.y_stride, s.x_stride}, begin);
  for (int64_t line = begin; line < end; line++, walk.next()) from[line - begin] = walk.offset[0], to[line - begin] = walk.offset[1];
  for (int64_t j = 0; j < s.count; j++) {
    for (int64_t line = 0; line < end - begin; line++) {
      const int64_t at = from[line] + j * s.y_step;
      T& sum = dx[to[line] + index[s.flat ? j : at] * s.x_step];
      sum = T(sum + dy[at]);
    }
  }
}

}  // namespace

void gather_forward(const Context& context, const GatherAlong& s, const T* x, const i64* index, T* y) {
  const Paths p = paths_of(s);
  for_blocks(context, s.lines * s.count, [&](int64_t begin, int64_t end) {
    Walk<3> walk(p.rank, p.dims, {p.y, p.x, p.index}, begin);
    for (int64_t i = begin; i < end; i++, walk.next()) y[walk.offset[0]] = x[walk.offset[1] + index[walk.offset[2]] * s.x_step];
  });
}

Plan gather_backward_plan(const Context&, const GatherAlong&) { return {"lines", 0}; }

void gather_backward(const Context& context, const GatherAlong& s, const i64* index, const T* dy, T* dx, void*) {
  int64_t n = 1;
  for (int d = 0; d < s.x.rank; d++) n *= s.x.d[d];
  for_blocks(context, n, [=](int64_t begin, int64_t end) { __builtin_memset(dx + begin, 0, size_t(end - begin) * sizeof(T)); });
  const int64_t lines = larger(1, smaller(lines_at_once, elements_per_block / larger(1, s.count)));
  parallel(context, s.count ? divide_up(s.lines, lines) : 0,
           [&](int64_t block, int) { add_lines(s, index, dy, dx, block * lines, smaller((block + 1) * lines, s.lines)); });
}

}  // namespace fastnn::FASTNN_TABLE
