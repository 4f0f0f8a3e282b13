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

// Statistics of each sample over its last `dims` dimensions, D numbers that lie side by side; gamma and beta have one number for each.
// affine: whether backward makes their gradients; shapes are (0) without.
struct LayerNorm {
  int64_t rows, D;
  double eps;
  bool affine;
  Shape x, gamma;
  LayerNorm(Shape x, int64_t dims, double eps, bool affine);
  Shape x_shape() const, gamma_shape() const, rows_shape() const, dgamma_shape() const;  // rank 4: gamma (1, C, H, W) or x's shape
};

// Statistics of each sample over each of `groups` groups of C / groups channels; gamma and beta have one number for each channel.
struct GroupNorm {
  int64_t N, pixels, C, groups;
  double eps;
  bool affine;
  Shape x;
  GroupNorm(Shape x, int64_t groups, double eps, bool affine);
  Shape x_shape() const, c_shape() const, groups_shape() const, dgamma_shape() const;  // groups: (N, groups)
};

// x seen as rows x C in memory order: (N, C), or (N, C, H, W) with rows = N H W.
struct Channels {
  int64_t rows, C;
  Shape x;
  explicit Channels(Shape x);
  Shape x_shape() const, c_shape() const;
};

}  // namespace fastnn
