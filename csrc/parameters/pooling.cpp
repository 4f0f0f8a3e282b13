#include "pooling.h"

#include "checks.h"

namespace fastnn {
namespace {

void expect_window(const char* what, Pair kernel, Pair stride, Pair pad, Pair dilation = {1, 1}) {
  expect_positive(what, "kernel_size", kernel);
  expect_positive(what, "dilation", dilation);
  expect_positive(what, "stride", stride);
  expect_not_negative(what, "padding", pad);
  if (2 * pad.h > kernel.h || 2 * pad.w > kernel.w)
    refuse(what, ": padding (", pad.h, ", ", pad.w, ") must be at most half of kernel_size (", kernel.h, ", ", kernel.w, ")");
}

int64_t pool_size(const char* what, const char* axis, int64_t size, int64_t window, int64_t stride, int64_t pad, bool ceil_mode) {
  if (const int64_t missing = window - size - 2 * pad; ceil_mode && size + pad > 0 && missing > 0 && missing < stride)
    return 1;  // the first window is the one that begins inside and ends beyond
  const int64_t count = windows(what, axis, size, pad, pad, window, stride);
  // one more window when pixels are left over and it starts inside the map
  return count + (ceil_mode && (size + 2 * pad - window) % stride && count * stride < size + pad);
}

// With dilation a window can step over a small map.
void expect_pixels(const char* what, const char* axis, int64_t size, int64_t count, int64_t window, int64_t stride, int64_t pad,
                   int64_t dilation) {
  const int64_t behind = (size + pad + stride - 1) / stride;  // the first window that begins there
  for (int64_t i = 0; i < count; i++) {
    if (i * stride >= pad && i < behind) i = behind;  // those between begin on a pixel
    const int64_t begin = i * stride - pad, skipped = begin < 0 ? (-begin + dilation - 1) / dilation : 0;
    if (i >= count) break;
    if (skipped >= window || begin + skipped * dilation >= size)
      refuse(what, ": window ", i, " of ", axis, " ", window, " with dilation ", dilation, " has no pixel of the ", size,
             " there are; use less padding or dilation");
  }
}

// the winner of a window is kept as one byte
void expect_few_pixels(const char* what, Pair window) {
  if (window.h > 256 || window.w > 256 || window.h * window.w > 256)
    refuse(what, ": a window of ", window.h, " x ", window.w, " = ", window.h * window.w, " exceeds 256 (the winner is kept as one byte)");
}

}  // namespace

Pool2d::Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode, Pair dilation, Activation activation)
    : relu(activation == Activation::relu) {
  expect_rank("max_pool2d", x, 4, "(N, C, H, W)");
  expect_window("max_pool2d", kernel, stride, pad, dilation);
  expect_few_pixels("max_pool2d", kernel);
  if (!relu && activation != Activation::none) refuse("max_pool2d: activation must be none or relu");
  if (relu && kernel.h * kernel.w > no_winner)
    refuse("max_pool2d: a window of ", kernel.h, " x ", kernel.w, " with relu exceeds ", no_winner, " (one byte says who won, or nobody)");
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], R = kernel.h, S = kernel.w;
  stride_h = stride.h, stride_w = stride.w, pad_h = pad.h, pad_w = pad.w, dilation_h = dilation.h, dilation_w = dilation.w;
  P = pool_size("max_pool2d", "height", H, dilation_h * (R - 1) + 1, stride_h, pad_h, ceil_mode);
  Q = pool_size("max_pool2d", "width", W, dilation_w * (S - 1) + 1, stride_w, pad_w, ceil_mode);
  expect_pixels("max_pool2d", "height", H, P, R, stride_h, pad_h, dilation_h);
  expect_pixels("max_pool2d", "width", W, Q, S, stride_w, pad_w, dilation_w);
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

AvgPool2d::AvgPool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode, bool count_include_pad_, int64_t divisor_override_)
    : divisor_override(divisor_override_), count_include_pad(count_include_pad_) {
  expect_rank("avg_pool2d", x, 4, "(N, C, H, W)");
  expect_window("avg_pool2d", kernel, stride, pad);
  N = x.d[0], C = x.d[1];
  h = {x.d[2], pool_size("avg_pool2d", "height", x.d[2], kernel.h, stride.h, pad.h, ceil_mode), kernel.h, stride.h, pad.h, false};
  w = {x.d[3], pool_size("avg_pool2d", "width", x.d[3], kernel.w, stride.w, pad.w, ceil_mode), kernel.w, stride.w, pad.w, false};
}
AvgPool2d::AvgPool2d(Shape x, Pair output) : divisor_override(0), count_include_pad(false) {
  expect_rank("adaptive_avg_pool2d", x, 4, "(N, C, H, W)");
  expect_positive("adaptive_avg_pool2d", "output_size", output);
  if (x.d[2] * x.d[3] < 1) refuse("adaptive_avg_pool2d: input ", x, " has no pixels");
  N = x.d[0], C = x.d[1];
  h = {x.d[2], output.h, 0, 0, 0, true};
  w = {x.d[3], output.w, 0, 0, 0, true};
}
Shape AvgPool2d::x_shape() const { return shape_of(N, C, h.size, w.size); }
Shape AvgPool2d::y_shape() const { return shape_of(N, C, h.count, w.count); }

RegionPool2d::RegionPool2d(Shape x, Pair output, Pair window, bool per_sample_) : per_sample(per_sample_) {
  expect_rank("region_max_pool2d", x, 4, "(N, C, H, W)");
  expect_positive("region_max_pool2d", "output_size", output);
  expect_positive("region_max_pool2d", "window", window);
  expect_few_pixels("region_max_pool2d", window);
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], R = window.h, S = window.w, P = output.h, Q = output.w;
  if (R > H || S > W) refuse("region_max_pool2d: a window of ", R, " x ", S, " does not fit into ", x);
}
Shape RegionPool2d::x_shape() const { return shape_of(N, C, H, W); }
Shape RegionPool2d::y_shape() const { return shape_of(N, C, P, Q); }
Shape RegionPool2d::regions_shape() const { return shape_of(per_sample ? N : 1, 2, P + Q); }

PoolPlaces::PoolPlaces(Shape y, int64_t W_, int64_t S_, Pair dilation, bool per_sample_)
    : W(W_), S(S_), dilation_h(dilation.h), dilation_w(dilation.w), per_sample(per_sample_) {
  expect_rank("pool_places", y, 4, "(N, C, P, Q)");
  expect_positive("pool_places", "dilation", dilation);
  expect_positive("pool_places", "width of map and window", {W, S});
  N = y.d[0], C = y.d[1], P = y.d[2], Q = y.d[3];
}
Shape PoolPlaces::y_shape() const { return shape_of(N, C, P, Q); }
Shape PoolPlaces::regions_shape() const { return shape_of(per_sample ? N : 1, 2, P + Q); }

FractionalRegions::FractionalRegions(Shape x, Pair output, Pair window, bool pseudo_random_, int64_t draw_, int64_t offset_)
    : draw(draw_), offset(offset_), pseudo_random(pseudo_random_) {
  const char* const what = "fractional_max_pool2d";
  expect_rank(what, x, 4, "(N, C, H, W)");
  expect_positive(what, "kernel_size", window);
  expect_positive(what, "output_size", output);
  N = x.d[0], H = x.d[2], W = x.d[3], R = window.h, S = window.w, P = output.h, Q = output.w;
  auto fits = [&](const char* axis, int64_t size, int64_t reach, int64_t count) {
    if (count + reach - 1 > size)
      refuse(what, ": ", count, " regions of ", axis, " ", reach, " need an input of at least ", count + reach - 1, ", got ", size);
    if (size >= 1 << 15) refuse(what, ": ", axis, " ", size, " exceeds 32767");
  };
  fits("height", H, R, P);
  fits("width", W, S, Q);
  if (draw < 0 || offset < 0) refuse(what, ": draw and offset must not be negative, got ", draw, " and ", offset);
}
Shape FractionalRegions::state_shape() const { return shape_of(2); }
Shape FractionalRegions::regions_shape() const { return shape_of(N, 2, P + Q); }

}  // namespace fastnn
