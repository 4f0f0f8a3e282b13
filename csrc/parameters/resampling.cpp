#include "resampling.h"

#include "checks.h"

namespace fastnn {
namespace {

// PyTorch overlooks a scale beside which sizes are equal, or for nearest double.
ResampleAxis axis(int64_t size, int64_t count, bool linear, bool align_corners, double scale) {
  if (count == size || (!linear && count == 2 * size)) scale = 0;
  if (linear && align_corners) return {size, count, 0, double(count > 1 ? size - 1 : 0), double(count > 1 ? count - 1 : 1), linear};
  return {size, count, linear ? 0.5 : 0, scale > 0 ? 1 : double(size), scale > 0 ? scale : double(count), linear};
}

}  // namespace

Upsample2d::Upsample2d(Shape x, Pair output, bool bilinear, bool align_corners, double scale_h, double scale_w) {
  expect_rank("upsample2d", x, 4, "(N, C, H, W)");
  expect_positive("upsample2d", "size", output);
  if (x.d[2] * x.d[3] < 1) refuse("upsample2d: input ", x, " has no pixels");
  N = x.d[0], C = x.d[1];
  h = axis(x.d[2], output.h, bilinear, align_corners, scale_h);
  w = axis(x.d[3], output.w, bilinear, align_corners, scale_w);
}
Shape Upsample2d::x_shape() const { return shape_of(N, C, h.size, w.size); }
Shape Upsample2d::y_shape() const { return shape_of(N, C, h.count, w.count); }

}  // namespace fastnn
