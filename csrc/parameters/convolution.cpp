#include "convolution.h"

#include "checks.h"

namespace fastnn {

Conv2d::Conv2d(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups, Activation activation_,
               bool weights_stay_)
    : activation(activation_), weights_stay(weights_stay_) {
  expect_rank("conv2d", x, 4, "(N, C, H, W)");
  if (w.rank != 4) refuse("conv2d expects a weight of shape (K, C / groups, R, S), got ", w);
  expect_positive("conv2d", "stride", stride);
  expect_positive("conv2d", "dilation", dilation);
  expect_not_negative("conv2d", "padding", pad_before);
  expect_not_negative("conv2d", "padding", pad_after);
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], K = w.d[0], R = w.d[2], S = w.d[3], G = groups;
  if (G < 1 || C % G || K % G) refuse("conv2d: groups = ", G, " must divide both ", C, " input and ", K, " output channels");
  if (w.d[1] != C / G) refuse("conv2d: got ", C, " channels from input ", x, "; weight ", w, " with groups = ", G, " expects ", w.d[1] * G);
  if (C < 1 || K < 1 || R < 1 || S < 1) refuse("conv2d: channels and window must be at least 1, got input ", x, " and weight ", w);
  stride_h = stride.h, stride_w = stride.w, dilation_h = dilation.h, dilation_w = dilation.w;
  pad_top = pad_before.h, pad_left = pad_before.w, pad_bottom = pad_after.h, pad_right = pad_after.w;
  P = windows("conv2d", "height", H, pad_top, pad_bottom, (R - 1) * dilation_h + 1, stride_h);
  Q = windows("conv2d", "width", W, pad_left, pad_right, (S - 1) * dilation_w + 1, stride_w);
  const int64_t height = H + pad_top + pad_bottom, width = W + pad_left + pad_right, most = int64_t(1) << 30;
  if (height >= most || width >= most) refuse("conv2d: ", height, " x ", width, " pixels with padding; each must be less than 2**30");
  // One window knows no stride: beyond the padded input it would only part the gradient into more phases.
  if (P == 1 && stride_h > height) stride_h = height ? height : 1;
  if (Q == 1 && stride_w > width) stride_w = width ? width : 1;
  if (stride_h * stride_w > 2 * most / G) refuse("conv2d: stride ", stride_h, " x ", stride_w, " x groups ", G, " must be at most 2**31");
}
Shape Conv2d::x_shape() const { return shape_of(N, C, H, W); }
Shape Conv2d::w_shape() const { return shape_of(K, C / G, R, S); }
Shape Conv2d::c_shape() const { return shape_of(C); }
Shape Conv2d::k_shape() const { return shape_of(K); }
Shape Conv2d::y_shape() const { return shape_of(N, K, P, Q); }

MatMul::MatMul(Shape a_, Shape b_, bool ta, bool tb, Activation activation_)
    : transpose_a(ta), transpose_b(tb), activation(activation_), a(a_), b(b_) {
  if (a.rank < 2 || b.rank < 2 || a.rank == 4 || b.rank == 4)
    refuse("matmul expects operands of rank 2, 3 or 5 and more, got ", a, " and ", b);
  const int64_t a_rows = a.d[a.rank - 2], a_columns = a.d[a.rank - 1], b_rows = b.d[b.rank - 2], b_columns = b.d[b.rank - 1];
  M = ta ? a_columns : a_rows, K = ta ? a_rows : a_columns, N = tb ? b_rows : b_columns;
  const int64_t b_inner = tb ? b_columns : b_rows;
  if (K != b_inner)
    refuse("matmul: ", a, ta ? " transposed" : "", " times ", b, tb ? " transposed" : "", ": the inner sizes ", K, " and ", b_inner,
           " differ");
  batch = 1;
  y = a;
  y.d[a.rank - 2] = M, y.d[a.rank - 1] = N;
  if (a.rank > 2 && b.rank == 2 && !ta) {  // every row of a meets the same b
    for (int i = 0; i < a.rank - 2; i++) M *= a.d[i];
    return;
  }
  if (a.rank != b.rank) refuse("matmul: leading dimensions of ", a, " and ", b, " differ; reshape one of them");
  for (int i = 0; i < a.rank - 2; i++) {
    if (a.d[i] != b.d[i]) refuse("matmul: leading dimensions of ", a, " and ", b, " differ");
    batch *= a.d[i];
  }
}
Shape MatMul::a_shape() const { return a; }
Shape MatMul::b_shape() const { return b; }
Shape MatMul::n_shape() const { return shape_of(N); }
Shape MatMul::y_shape() const { return y; }

}  // namespace fastnn
