// Convolutions and matrix products.
#pragma once
#include "basics.h"

namespace fastnn {

// y[n,k,p,q] = activation(b[k] + sum over c,r,s of x[n, g C/G + c, p stride - pad + r dilation, q stride - pad + s dilation] w[k,c,r,s])
// with g = k / (K/G). The backward rows are those of the sum: they know nothing of the activation; a normalized x has one of its own.
struct Conv2d {
  int64_t N, C, H, W, K, R, S, G, P, Q;
  int64_t stride_h, stride_w, dilation_h, dilation_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  Activation activation;
  bool weights_stay;  // the same come again and again, and are kept packed: that may cost more
  Conv2d(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups, Activation activation,
         bool weights_stay = false);
  Shape x_shape() const, w_shape() const, c_shape() const, k_shape() const, y_shape() const;
};

// y[b] = activation(op(a[b]) op(b[b]) + bias). op(a) is M x K, op(b) is K x N. With batch = 1 leading dimensions of `a` are folded into M.
struct MatMul {
  int64_t batch, M, N, K;
  bool transpose_a, transpose_b;  // a lies [K][M], b lies [N][K]
  Activation activation;
  Shape a, b, y;
  MatMul(Shape a, Shape b, bool transpose_a, bool transpose_b, Activation activation = Activation::none);
  Shape a_shape() const, b_shape() const, n_shape() const, y_shape() const;
};

}  // namespace fastnn
