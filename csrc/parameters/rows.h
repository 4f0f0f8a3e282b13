// Functions of whole rows: softmax along an axis, distances between the rows of two matrices.
#pragma once
#include "basics.h"

namespace fastnn {

// Along one dimension. x in memory is outer x n x inner: the elements of a row lie `inner` apart.
struct Softmax {
  int64_t outer, n, inner;
  Shape x, kept;  // kept: with that dimension of size 1
  Softmax(Shape x, int dim);
  Shape x_shape() const, kept_shape() const;
};

// y[i][j] = sum over d of |a[i][d] - b[j][d]|^p, p = 1 or 2 (no root is taken)
struct Distance {
  int64_t M, N, D;
  int p;
  Distance(Shape a, Shape b, int p);
  Shape a_shape() const, b_shape() const, y_shape() const;
};

}  // namespace fastnn
