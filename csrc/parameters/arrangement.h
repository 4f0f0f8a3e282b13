// Reductions over axes, and strided views made dense.
#pragma once
#include "basics.h"

namespace fastnn {

// Reduction over the axes of `mask` (bit d = logical dimension d). Kept and reduced dimensions stand in x's memory order, outermost
// first, merged where they run together, with their strides in x, and those of the kept ones in y.
// For max, index is the row-major position of the winner among the reduced dimensions *in memory order*; ties to the first, NaN wins.
struct Reduce {
  int kept_rank, reduced_rank;
  int64_t kept[max_rank] = {}, kept_stride[max_rank] = {}, kept_out_stride[max_rank] = {};
  int64_t reduced[max_rank] = {}, reduced_stride[max_rank] = {};
  int64_t kept_count, reduced_count;
  Shape x, y;
  Reduce(Shape x, uint32_t mask, bool keepdims);
  Reduce(Shape x, int64_t pieces);  // over `pieces` neighbouring channels: (N, C pieces, ...) -> (N, C, ...)
  Shape x_shape() const, y_shape() const;
};

// y[.., j, ..] = x[.., index[.., j, ..], ..] along `axis`. A whole index has y's shape, which is x's but for the axis, or smaller; a flat
// one of rank 1 serves every line. Dimensions but for the axis stand in memory order: a line of y is y[sum i_d y_stride_d + j y_step].
struct GatherAlong {
  int rank;  // of the lines
  int64_t dims[max_rank] = {}, x_stride[max_rank] = {}, y_stride[max_rank] = {};
  int64_t lines, count, size, x_step, y_step;  // count elements of y are taken out of size elements of x
  bool flat;
  Shape x, index, y;
  GatherAlong(Shape x, Shape index, int axis, bool flat);
  Shape x_shape() const, index_shape() const, y_shape() const;
};

// A strided view of x made dense: y, read in its memory order with dims, is x[offset + sum i_d stride_d].
// copy_backward and paste need a view that takes no element twice.
struct Strided {
  int rank;
  int64_t dims[max_rank] = {}, stride[max_rank] = {}, offset;
  Shape x, y;
  Strided(Shape x, Shape y, Shape dims, Shape stride, int64_t offset);
  Shape x_shape() const, y_shape() const;
};

}  // namespace fastnn
