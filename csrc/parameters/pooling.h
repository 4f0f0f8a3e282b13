// Windows that slide over maps.
#pragma once
#include "basics.h"

namespace fastnn {

// y[n,c,p,q] = max over r,s of x[n, c, p stride - pad + r dilation, q stride - pad + s dilation]; padding never wins, NaN does, ties go to
// the first. index = r S + s of the winner. P = floor((H + 2 pad - dilation (R - 1) - 1) / stride) + 1, ceil with ceil_mode (the last
// window starts inside the map). relu: x is the result of a ReLU; index = no_winner where the maximum is 0 or less, so that the gradient of
// ReLU and maximum together is that of the maximum alone.
struct Pool2d {
  static constexpr int no_winner = 255;
  int64_t N, C, H, W, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  bool relu;
  Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode, Pair dilation, Activation activation);
  Shape x_shape() const, y_shape() const;
};

struct GlobalPool {  // (N, C, H, W) -> (N, C, 1, 1)
  int64_t N, C, H, W;
  explicit GlobalPool(Shape x);
  Shape x_shape() const, y_shape() const;
};

// One axis of windows: window i has the inputs [i stride - pad, i stride - pad + window) that exist, or, adaptive, an even share,
// [floor(i size / count), ceil((i + 1) size / count)). windows.h says which.
struct PoolAxis {
  int64_t size, count, window, stride, pad;
  bool adaptive;
};

// y = (sum of the window) / divisor; divisor: divisor_override unless 0, else the window's pixels: those of the map, or, with
// count_include_pad, those of the padding too (but never what lies beyond it, as ceil_mode has it).
struct AvgPool2d {
  int64_t N, C, divisor_override;
  PoolAxis h, w;
  bool count_include_pad;
  AvgPool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode, bool count_include_pad, int64_t divisor_override);
  AvgPool2d(Shape x, Pair output);  // adaptive
  Shape x_shape() const, y_shape() const;
};

// Maximum over listed regions: rows begin[p] ... end[p] x columns begin[q] ... end[q], for each sample or for all. begin and end never
// fall. index = r S + s of the winner, counted from the region's corner. R x S: the largest region.
struct RegionPool2d {
  int64_t N, C, H, W, R, S, P, Q;
  bool per_sample;
  RegionPool2d(Shape x, Pair output, Pair window, bool per_sample);
  Shape x_shape() const, y_shape() const, regions_shape() const;  // regions: (N or 1, begin | end, P rows then Q columns)
};

// Where winners lie in their maps: place = (begin[p] + index / S * dilation) W + begin[q] + index % S * dilation, begin as of RegionPool2d.
struct PoolPlaces {
  int64_t N, C, P, Q, W, S, dilation_h, dilation_w;
  bool per_sample;
  PoolPlaces(Shape y, int64_t W, int64_t S, Pair dilation, bool per_sample);
  Shape y_shape() const, regions_shape() const;
};

// Regions of fractional max pooling (Graham, "Fractional max-pooling", 2014): R x S pixels each, the first at 0 and the last at the end.
// random: steps of floor(a) and floor(a) + 1 in random order, a = (H - R) / (P - 1). pseudo-random: region i begins at
// floor(a (i + u)) - floor(a u), u uniform. Word (offset + n) (P + Q) + j of the draw decides about sample n's region j (rows first), u
// is the first word of the axis.
struct FractionalRegions {
  int64_t N, H, W, R, S, P, Q, draw, offset;
  bool pseudo_random;
  FractionalRegions(Shape x, Pair output, Pair window, bool pseudo_random, int64_t draw, int64_t offset);
  Shape state_shape() const, regions_shape() const;
};

}  // namespace fastnn
