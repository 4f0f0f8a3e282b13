// One element, or two that broadcast, at a time.
#pragma once
#include "basics.h"

namespace fastnn {

struct Elements {
  int64_t n;
  Shape s;
  explicit Elements(Shape s);
  Shape shape() const;
};

struct Power {  // y = x^exponent
  int64_t n;
  double exponent;
  Shape s;
  Power(Shape s, double exponent);
  Shape shape() const;
};

// y[i] = x[i] / (1 - p) where word(i) >= threshold, else 0 (scale = 1 / (1 - p), threshold = round(p 2^32)).
// word(i) is word i % 4 of Philox block i / 4 (+ offset); the draw is state[1] + draw; i counts elements as they lie in memory.
struct Dropout {
  int64_t n, draw, offset;
  double scale;
  uint64_t threshold;
  Shape s;
  Dropout(Shape s, double p, int64_t draw, int64_t offset);
  Shape shape() const, state_shape() const;
};

// Broadcasting y = a (op) b by numpy's rules. dims and strides are in memory order of y, outermost first, dimensions that run
// together already merged: element (i_0, ..., i_{rank-1}) of y is a[sum i_d a_stride_d] (op) b[sum i_d b_stride_d].
struct Binary {
  int rank;
  int64_t dims[max_rank], a_stride[max_rank], b_stride[max_rank];
  Shape a, b, y;
  Binary(Shape a, Shape b);
  Shape a_shape() const, b_shape() const, y_shape() const;
};

}  // namespace fastnn
