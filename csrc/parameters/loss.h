// Losses. "mean" divides the sum of all losses; each struct says by what.
#pragma once
#include "basics.h"

namespace fastnn {

enum class Reduction : int { none, mean, sum };

// loss_i = w[t_i] (1 - e) (lse_i - z_i[t_i]) + e / C sum_c w[c] (lse_i - z_i[c]); 0 where t_i = ignore_index.
// mean divides by the sum of w[t_i] over the samples that count (`divisor`), as PyTorch does. Without smoothing it serves nll too:
// loss_i = -w[t_i] z_i[t_i].
struct CrossEntropy {
  int64_t N, C, ignore_index;
  double smoothing;
  Reduction reduction;
  CrossEntropy(Shape logits, double smoothing, int64_t ignore_index, Reduction reduction);
  Shape x_shape() const, n_shape() const, c_shape() const, loss_shape() const, scalar_shape() const;
};

// loss_i = sum_c q_i[c] (lse_i - z_i[c]), q_i[c] = w[c] ((1 - e) t_i[c] + e / C); a class with q = 0 counts nothing. mean divides by N.
struct SoftCrossEntropy {
  int64_t N, C;
  double smoothing;
  Reduction reduction;
  SoftCrossEntropy(Shape logits, double smoothing, Reduction reduction);
  Shape x_shape() const, n_shape() const, c_shape() const, loss_shape() const;
};

// loss_i = scale w[t_i] sum over c != t_i of max(0, margin - z_i[t_i] + z_i[c])^p, p = 1 or 2. mean divides by N.
struct MultiMargin {
  int64_t N, C;
  int p;
  double margin, scale;
  Reduction reduction;
  MultiMargin(Shape scores, int p, double margin, double scale, Reduction reduction);
  Shape x_shape() const, n_shape() const, c_shape() const, loss_shape() const;
};

// loss(d) = curve d^2 where |d| <= width, else slope (|d| - width / 2), of d = x - target. mean divides by the number of elements.
//   mse          width = infinity, curve = 1            l1     width = 0, slope = 1
//   smooth_l1    width = beta, curve = 1 / (2 beta),    huber  width = delta, curve = 1 / 2,
//                slope = 1                                     slope = delta
struct ElementLoss {
  int64_t n;
  double width, curve, slope;
  Reduction reduction;
  Shape s;
  ElementLoss(Shape s, double width, double curve, double slope, Reduction reduction);
  Shape shape() const, loss_shape() const;
};

// loss = w (p t log(1 + e^-x) + (1 - t) log(1 + e^x)), t the target, w the weight, p the weight of positives; max(-x, 0) and max(x, 0) are
// taken out of the logarithms, so that nothing overflows or cancels. mean divides by the number of elements.
struct BinaryCrossEntropy {
  int64_t n;
  Reduction reduction;
  Shape s;
  BinaryCrossEntropy(Shape s, Reduction reduction);
  Shape shape() const, loss_shape() const;
};

// value = l2 sum w^2 + l1 sum |w| over all elements of all weights; slope 2 l2 w + l1 sign(w)
struct Penalty {
  int64_t count;
  double l1, l2;
  Penalty(int64_t count, double l1, double l2);
  Shape sizes() const, scalar_shape() const;
};

}  // namespace fastnn
