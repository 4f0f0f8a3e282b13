// Statistics over rows and what is done with them.
#pragma once
#include "basics.h"
#include "convolution.h"

namespace fastnn {

struct BatchNorm {
  int64_t rows, C;       // x seen as rows x C
  double eps, momentum;  // momentum is the weight of the new value (PyTorch's convention)
  Activation activation;
  bool training;  // backward: statistics depend on x (training) or are constants (evaluation)
  bool residual;  // whether a residual is added before the activation
  Shape x;
  BatchNorm(Shape x, double eps, double momentum, Activation activation, bool training, bool residual);
  Shape x_shape() const, c_shape() const, residual_shape() const;  // residual_shape: x's, or (0) without residual
};

// A convolution and the training form of the batch normalisation behind it: z = conv(x), y = activation(norm(z) + residual).
struct Conv2dBatchNorm {
  Conv2d conv;
  BatchNorm norm;
  Conv2dBatchNorm(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups, double eps,
                  double momentum, Activation activation, bool residual);
  Shape x_shape() const, w_shape() const, k_shape() const, y_shape() const;
};

}  // namespace fastnn
