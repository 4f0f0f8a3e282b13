// Maps of another size.
#pragma once
#include "basics.h"

namespace fastnn {

// Output i of an axis lies at (i + shift) numerator / denominator - shift of the input; windows.h says what is read there.
struct ResampleAxis {
  int64_t size, count;
  double shift, numerator, denominator;
  bool linear;
};

// (N, C, H, W) -> (N, C, P, Q). nearest: the input pixel below the place, floor(i H / P). bilinear: the two (per axis) around it, at
// (i + 1/2) H / P - 1/2, or with align_corners at i (H - 1) / (P - 1). A scale that is not 0 stands for P / H.
struct Upsample2d {
  int64_t N, C;
  ResampleAxis h, w;
  Upsample2d(Shape x, Pair output, bool bilinear, bool align_corners, double scale_h, double scale_w);
  Shape x_shape() const, y_shape() const;
};

}  // namespace fastnn
