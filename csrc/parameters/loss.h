// Losses.
#pragma once
#include "basics.h"

namespace fastnn {

// loss_i = w[t_i] (1 - e) (lse_i - z_i[t_i]) + e / C sum_c w[c] (lse_i - z_i[c]); 0 where t_i = ignore_index.
// mean divides by the sum of w[t_i] over the samples that count (`divisor`), as PyTorch does.
struct CrossEntropy {
  enum Reduction : int { none, mean, sum };
  int64_t N, C, ignore_index;
  double smoothing;
  Reduction reduction;
  CrossEntropy(Shape logits, double smoothing, int64_t ignore_index, int reduction);
  Shape x_shape() const, n_shape() const, c_shape() const, loss_shape() const, scalar_shape() const;
};

}  // namespace fastnn
