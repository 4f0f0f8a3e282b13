#include "pooling.h"

#include "checks.h"

namespace fastnn {

Pool2d::Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode) {
  expect_rank("max_pool2d", x, 4, "(N, C, H, W)");
  expect_positive("max_pool2d", "kernel_size", kernel);
  expect_positive("max_pool2d", "stride", stride);
  expect_not_negative("max_pool2d", "padding", pad);
  if (2 * pad.h > kernel.h || 2 * pad.w > kernel.w)
    refuse("max_pool2d: padding (", pad.h, ", ", pad.w, ") must be at most half of kernel_size (", kernel.h, ", ", kernel.w, ")");
  if (kernel.h * kernel.w > 256)
    refuse("max_pool2d: a window of ", kernel.h, " x ", kernel.w, " = ", kernel.h * kernel.w,
           " exceeds 256 (the winner is kept as one byte)");
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], R = kernel.h, S = kernel.w;
  stride_h = stride.h, stride_w = stride.w, pad_h = pad.h, pad_w = pad.w;
  P = windows("max_pool2d", "height", H, pad_h, pad_h, R, stride_h);
  Q = windows("max_pool2d", "width", W, pad_w, pad_w, S, stride_w);
  if (ceil_mode) {  // one more window when pixels are left over and it starts inside the map
    if ((H + 2 * pad_h - R) % stride_h && P * stride_h < H + pad_h) P++;
    if ((W + 2 * pad_w - S) % stride_w && Q * stride_w < W + pad_w) Q++;
  }
}
Shape Pool2d::x_shape() const { return shape_of(N, C, H, W); }
Shape Pool2d::y_shape() const { return shape_of(N, C, P, Q); }

GlobalPool::GlobalPool(Shape x) {
  expect_rank("global_avg_pool2d", x, 4, "(N, C, H, W)");
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3];
  if (H * W < 1) refuse("global_avg_pool2d: input ", x, " has no pixels");
}
Shape GlobalPool::x_shape() const { return shape_of(N, C, H, W); }
Shape GlobalPool::y_shape() const { return shape_of(N, C, 1, 1); }

}  // namespace fastnn
