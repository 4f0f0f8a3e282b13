// Windows that slide over maps.
#pragma once
#include "basics.h"

namespace fastnn {

// y[n,c,p,q] = max over r,s of x[n, c, p stride - pad + r, q stride - pad + s]; padding never wins, NaN does, ties go to the first.
// index = r S + s of the winner. P = floor((H + 2 pad - R) / stride) + 1, ceil with ceil_mode (the last window starts inside the map).
struct Pool2d {
  int64_t N, C, H, W, R, S, P, Q, stride_h, stride_w, pad_h, pad_w;
  Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode);
  Shape x_shape() const, y_shape() const;
};

struct GlobalPool {  // (N, C, H, W) -> (N, C, 1, 1)
  int64_t N, C, H, W;
  explicit GlobalPool(Shape x);
  Shape x_shape() const, y_shape() const;
};

}  // namespace fastnn
