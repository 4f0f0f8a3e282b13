#include "normalization.h"

#include "checks.h"

namespace fastnn {

BatchNorm::BatchNorm(Shape x_, double eps_, double momentum_, Activation activation_, bool training_, bool residual_)
    : eps(eps_), momentum(momentum_), activation(activation_), training(training_), residual(residual_), x(x_) {
  if (x.rank != 2 && x.rank != 4) refuse("batch_norm expects (N, C) or (N, C, H, W), got ", x);
  if (!(eps >= 0)) refuse("batch_norm: eps must not be negative, got ", eps);
  C = x.d[1];
  rows = x.rank == 2 ? x.d[0] : x.d[0] * x.d[2] * x.d[3];
  if (training && rows == 1)
    refuse("batch_norm: training needs more than 1 value per channel, got input ", x, "; use a larger batch or eval()");
}
Shape BatchNorm::x_shape() const { return x; }
Shape BatchNorm::c_shape() const { return shape_of(C); }
Shape BatchNorm::residual_shape() const { return residual ? x : shape_of(0); }

Conv2dBatchNorm::Conv2dBatchNorm(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups, double eps,
                                 double momentum, Activation activation, bool residual)
    : conv(x, w, stride, pad_before, pad_after, dilation, groups, Activation::none),
      norm(conv.y_shape(), eps, momentum, activation, true, residual) {}
Shape Conv2dBatchNorm::x_shape() const { return conv.x_shape(); }
Shape Conv2dBatchNorm::w_shape() const { return conv.w_shape(); }
Shape Conv2dBatchNorm::k_shape() const { return conv.k_shape(); }
Shape Conv2dBatchNorm::y_shape() const { return conv.y_shape(); }

LayerNorm::LayerNorm(Shape x_, int64_t dims, double eps_, bool affine_) : rows(1), D(1), eps(eps_), affine(affine_), x(x_) {
  if (dims < 1 || dims > x.rank) refuse("layer_norm: cannot normalise over ", dims, " dimensions of an input of shape ", x);
  if (x.rank == 4 && dims < 3)
    refuse("layer_norm: the last ", dims, " dimensions of ", x, " do not lie side by side (N, H, W, C); pass it as another rank");
  if (!(eps >= 0)) refuse("layer_norm: eps must not be negative, got ", eps);
  for (int d = 0; d < x.rank; d++) (d < x.rank - dims ? rows : D) *= x.d[d];
  if (D < 1) refuse("layer_norm: no numbers to normalise in an input of shape ", x);
  gamma = x.rank != 4 ? shape_of(D) : dims == 4 ? x : shape_of(1, x.d[1], x.d[2], x.d[3]);
}
Shape LayerNorm::x_shape() const { return x; }
Shape LayerNorm::gamma_shape() const { return gamma; }
Shape LayerNorm::rows_shape() const { return shape_of(rows); }
Shape LayerNorm::dgamma_shape() const { return affine ? gamma : shape_of(0); }

GroupNorm::GroupNorm(Shape x_, int64_t groups_, double eps_, bool affine_) : groups(groups_), eps(eps_), affine(affine_), x(x_) {
  if (x.rank != 2 && x.rank != 4) refuse("group_norm expects (N, C) or (N, C, H, W), got ", x);
  if (!(eps >= 0)) refuse("group_norm: eps must not be negative, got ", eps);
  N = x.d[0], C = x.d[1], pixels = x.rank == 2 ? 1 : x.d[2] * x.d[3];
  if (groups < 1 || C % groups) refuse("group_norm: ", groups, " groups do not divide the ", C, " channels of ", x);
  if (C * pixels < 1) refuse("group_norm: no numbers to normalise in an input of shape ", x);
}
Shape GroupNorm::x_shape() const { return x; }
Shape GroupNorm::c_shape() const { return shape_of(C); }
Shape GroupNorm::groups_shape() const { return shape_of(N, groups); }
Shape GroupNorm::dgamma_shape() const { return affine ? shape_of(C) : shape_of(0); }

Channels::Channels(Shape x_) : x(x_) {
  if (x.rank != 2 && x.rank != 4) refuse("channel_sum expects (N, C) or (N, C, H, W), got ", x);
  C = x.d[1];
  rows = x.rank == 2 ? x.d[0] : x.d[0] * x.d[2] * x.d[3];
}
Shape Channels::x_shape() const { return x; }
Shape Channels::c_shape() const { return shape_of(C); }

}  // namespace fastnn
