#include "arrangement.h"

#include "checks.h"

namespace fastnn {

Reduce::Reduce(Shape x_, uint32_t mask, bool keepdims) : x(x_) {
  y.rank = 0;
  for (int i = 0; i < x.rank; i++) {
    if (!(mask >> i & 1))
      y.d[y.rank++] = x.d[i];
    else if (keepdims)
      y.d[y.rank++] = 1;
  }
  const Shape out = strides_of(y);
  Shape y_strides;  // of y, per dimension of x
  for (int i = 0, j = 0; i < x.rank; i++) {
    const bool gone = mask >> i & 1;
    y_strides.d[i] = gone ? 0 : out.d[j];
    if (!gone || keepdims) j++;
  }
  const Shape x_strides = strides_of(x);
  const int nhwc[4] = {0, 2, 3, 1};
  kept_rank = reduced_rank = 0;
  kept_count = reduced_count = 1;
  for (int i = 0; i < x.rank; i++) {
    const int d = x.rank == 4 ? nhwc[i] : i;
    const int64_t n = x.d[d], s = x_strides.d[d];
    const bool gone = mask >> d & 1;
    (gone ? reduced_count : kept_count) *= n;
    if (n == 1) continue;
    if (gone) {
      if (reduced_rank && reduced_stride[reduced_rank - 1] == s * n) {
        reduced[reduced_rank - 1] *= n, reduced_stride[reduced_rank - 1] = s;
      } else {
        reduced[reduced_rank] = n, reduced_stride[reduced_rank] = s, reduced_rank++;
      }
    } else if (kept_rank && kept_stride[kept_rank - 1] == s * n && kept_out_stride[kept_rank - 1] == y_strides.d[d] * n) {
      kept[kept_rank - 1] *= n, kept_stride[kept_rank - 1] = s, kept_out_stride[kept_rank - 1] = y_strides.d[d];
    } else {
      kept[kept_rank] = n, kept_stride[kept_rank] = s, kept_out_stride[kept_rank] = y_strides.d[d], kept_rank++;
    }
  }
}
Reduce::Reduce(Shape x_, int64_t pieces) : kept_rank(0), reduced_rank(1), x(x_), y(x_) {
  if (x.rank < 2 || pieces < 1 || x.d[1] % pieces)
    refuse("maxout: shape ", x, " has no channels that make groups of ", pieces, "; their number must be a multiple of pieces");
  y.d[1] /= pieces;
  const int64_t maps = y.d[0] * y.d[1], inner = x.rank == 4 ? 1 : maps > 0 ? count(y) / maps : 0;
  kept_count = count(y), reduced_count = pieces;
  const int64_t outer = inner ? kept_count / inner : 0;
  if (outer != 1) kept[kept_rank] = outer, kept_stride[kept_rank] = pieces * inner, kept_out_stride[kept_rank] = inner, kept_rank++;
  if (inner != 1) kept[kept_rank] = inner, kept_stride[kept_rank] = 1, kept_out_stride[kept_rank] = 1, kept_rank++;
  reduced[0] = pieces, reduced_stride[0] = inner;
  if (pieces == 1) reduced_rank = 0;
}
Shape Reduce::x_shape() const { return x; }
Shape Reduce::y_shape() const { return y; }

GatherAlong::GatherAlong(Shape x_, Shape index_, int axis, bool flat_) : rank(0), lines(1), flat(flat_), x(x_), index(index_), y(x_) {
  if (axis < 0) axis += x.rank;
  if (axis < 0 || axis >= x.rank) refuse("gather: the axis does not exist in shape ", x);
  if (index.rank != (flat ? 1 : x.rank))
    refuse("gather: index has shape ", index, "; expected ", flat ? 1 : x.rank, " dimensions for x of shape ", x);
  if (flat) y.d[axis] = index.d[0];
  if (!flat) y = index;
  for (int d = 0; d < x.rank; d++)
    if (d != axis && y.d[d] > x.d[d]) refuse("gather: index of shape ", index, " reaches beyond x of shape ", x, " in dimension ", d);
  const Shape of_x = strides_of(x), of_y = strides_of(y);
  const int nhwc[4] = {0, 2, 3, 1};
  for (int i = 0; i < x.rank; i++) {
    const int d = x.rank == 4 ? nhwc[i] : i;
    if (d == axis) continue;
    lines *= y.d[d];
    dims[rank] = y.d[d], x_stride[rank] = of_x.d[d], y_stride[rank] = of_y.d[d], rank++;
  }
  count = y.d[axis], size = x.d[axis], x_step = of_x.d[axis], y_step = of_y.d[axis];
}
Shape GatherAlong::x_shape() const { return x; }
Shape GatherAlong::index_shape() const { return index; }
Shape GatherAlong::y_shape() const { return y; }

Strided::Strided(Shape x_, Shape y_, Shape dims_, Shape stride_, int64_t offset_) : rank(dims_.rank), offset(offset_), x(x_), y(y_) {
  if (dims_.rank != stride_.rank || count(dims_) != count(y)) refuse("copy: dims ", dims_, " and strides ", stride_, " do not make ", y);
  int64_t lowest = offset, highest = offset;
  for (int i = 0; i < rank; i++) {
    dims[i] = dims_.d[i], stride[i] = stride_.d[i];
    (stride[i] < 0 ? lowest : highest) += (dims[i] - 1) * stride[i];
  }
  if (count(y) && (lowest < 0 || highest >= count(x))) refuse("copy: the view reaches from ", lowest, " to ", highest, ", outside of ", x);
}
Shape Strided::x_shape() const { return x; }
Shape Strided::y_shape() const { return y; }

}  // namespace fastnn
