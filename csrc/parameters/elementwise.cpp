#include "elementwise.h"

#include "checks.h"

namespace fastnn {

Elements::Elements(Shape s_) : n(count(s_)), s(s_) {}
Shape Elements::shape() const { return s; }

Power::Power(Shape s_, double e) : n(count(s_)), exponent(e), s(s_) {}
Shape Power::shape() const { return s; }

Pointwise::Pointwise(Shape s_, Function function_, double a_, double b_) : n(count(s_)), function(function_), a(a_), b(b_), s(s_) {}
Shape Pointwise::shape() const { return s; }

Binary::Binary(Shape a_, Shape b_) : a(a_), b(b_) {
  y.rank = a.rank > b.rank ? a.rank : b.rank;
  Shape as = strides_of(a), bs = strides_of(b), a_full, b_full;
  for (int i = 0; i < y.rank; i++) {  // align to the right; a size of 1 repeats
    const int ia = i - (y.rank - a.rank), ib = i - (y.rank - b.rank);
    const int64_t na = ia < 0 ? 1 : a.d[ia], nb = ib < 0 ? 1 : b.d[ib];
    if (na != nb && na != 1 && nb != 1)
      refuse("shapes ", a, " and ", b, " do not broadcast: sizes ", na, " and ", nb, " in dimension ", i - y.rank);
    y.d[i] = na == 1 ? nb : na;
    a_full.d[i] = na == 1 ? 0 : as.d[ia];
    b_full.d[i] = nb == 1 ? 0 : bs.d[ib];
  }
  const int nhwc[4] = {0, 2, 3, 1};
  rank = 0;
  for (int i = 0; i < y.rank; i++) {
    const int d = y.rank == 4 ? nhwc[i] : i;
    const int64_t n = y.d[d], sa = a_full.d[d], sb = b_full.d[d];
    if (n == 1) continue;
    if (rank && a_stride[rank - 1] == sa * n && b_stride[rank - 1] == sb * n) {  // runs on from the dimension outside
      dims[rank - 1] *= n, a_stride[rank - 1] = sa, b_stride[rank - 1] = sb;
      continue;
    }
    dims[rank] = n, a_stride[rank] = sa, b_stride[rank] = sb, rank++;
  }
  if (!rank) dims[0] = 1, a_stride[0] = b_stride[0] = 0, rank = 1;
}
Shape Binary::a_shape() const { return a; }
Shape Binary::b_shape() const { return b; }
Shape Binary::y_shape() const { return y; }

Compare::Compare(Shape a_, Shape b_, Comparison comparison_) : Binary(a_, b_), comparison(comparison_) {}

}  // namespace fastnn
