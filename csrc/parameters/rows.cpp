#include "rows.h"

#include "checks.h"

namespace fastnn {

Softmax::Softmax(Shape x_, int dim) : outer(1), n(1), inner(1), x(x_), kept(x_) {
  const int d = dim < 0 ? dim + x.rank : dim;
  if (d < 0 || d >= x.rank) refuse("softmax: dim ", dim, " does not exist in shape ", x);
  const int nhwc[4] = {0, 2, 3, 1};
  bool inside = false;
  for (int i = 0; i < x.rank; i++) {
    const int at = x.rank == 4 ? nhwc[i] : i;
    if (at == d)
      n = x.d[at], inside = true;
    else
      (inside ? inner : outer) *= x.d[at];
  }
  kept.d[d] = 1;
}
Shape Softmax::x_shape() const { return x; }
Shape Softmax::kept_shape() const { return kept; }

Distance::Distance(Shape a, Shape b, int p_) : p(p_) {
  if (a.rank != 2 || b.rank != 2) refuse("distance expects a of shape (M, D) and b of shape (N, D), got ", a, " and ", b);
  if (a.d[1] != b.d[1]) refuse("distance: rows of a ", a, " have ", a.d[1], " features, rows of b ", b, " have ", b.d[1]);
  if (p != 1 && p != 2) refuse("distance: p must be 1 or 2, got ", p);
  M = a.d[0], N = b.d[0], D = a.d[1];
}
Shape Distance::a_shape() const { return shape_of(M, D); }
Shape Distance::b_shape() const { return shape_of(N, D); }
Shape Distance::y_shape() const { return shape_of(M, N); }

}  // namespace fastnn
