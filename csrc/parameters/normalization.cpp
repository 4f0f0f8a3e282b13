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

}  // namespace fastnn
