// Optimizer steps and what else goes over a list of parameters: how many there are, in how many groups. rates is (groups, columns).
#pragma once
#include "basics.h"
#include "convolution.h"

namespace fastnn {

// What update ratios are made of: each parameter is cut into pieces of this many elements, the last one shorter.
constexpr int64_t update_piece = 4096;

// t: the number of each parameter's step, from 1. moved: (pieces, 2), for each piece of the list {sum (w_new - w)^2, sum w^2}.
struct Update {
  int64_t count, groups, pieces;
  Update(int64_t count, int64_t groups, int64_t pieces);
  Shape sizes() const, each() const, moved_shape() const;
};

// sign: -1 where the gradient is climbed (maximize), else 1. g stands for sign * gradient + weight_decay w.

// Columns: lr, weight_decay, momentum, nesterov (0 or 1), dampening, sign.
// v = momentum v + (1 - dampening) g, at the first step v = g;  w -= lr (nesterov ? g + momentum v : v).
// With momentum 0, v is neither read nor written: w -= lr g.
struct SGD : Update {
  SGD(int64_t count, int64_t groups, int64_t pieces);
  Shape rates_shape() const;
};

// Columns: lr, weight_decay, beta1, beta2, eps, decoupled (0 or 1), amsgrad (0 or 1), sign. Without amsgrad, top is not touched.
struct Adam : Update {
  Adam(int64_t count, int64_t groups, int64_t pieces);
  Shape rates_shape() const;
};

// Columns: lr, weight_decay, lr_decay, eps, sign. s += g^2;  w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)
struct Adagrad : Update {
  Adagrad(int64_t count, int64_t groups, int64_t pieces);
  Shape rates_shape() const;
};

// Columns: lr, weight_decay, alpha, eps, momentum, centered (0 or 1), sign. s = alpha s + (1 - alpha) g^2;  m = alpha m + (1 - alpha) g;
// q = g / (sqrt(centered ? s - m^2 : s) + eps);  v = momentum v + q;  w -= lr v. Without centered m is not touched, without momentum v
// is not: w -= lr q.
struct RMSprop : Update {
  RMSprop(int64_t count, int64_t groups, int64_t pieces);
  Shape rates_shape() const;
};

// Matrices of one size: rows x columns as they lie in memory. Columns: lr, weight_decay, momentum, nesterov (0 or 1), step, renormalize
// (0 or 1), eps. v += (1 - momentum) (g - v);  u = nesterov ? g + momentum (v - g) : v;  x = u / max(|u|, eps);
// `steps` times x = (a I + b A + c A^2) x with A = x x^T (of the smaller side);  w = w (1 - lr weight_decay) [sqrt(rows) / |w|] - step x.
struct Muon : Update {
  int64_t rows, columns, steps;
  double a, b, c;
  bool tall;      // more rows than columns: A = x^T x stands on the right
  int64_t small;  // the smaller side
  MatMul gram, square, product;
  Muon(int64_t count, int64_t groups, int64_t pieces, int64_t rows, int64_t columns, int64_t steps, double a, double b, double c);
  Shape matrices() const, rates_shape() const;
};

struct ParameterList {
  int64_t count;
  explicit ParameterList(int64_t count);
  Shape sizes() const, scalar_shape() const;
};

}  // namespace fastnn
