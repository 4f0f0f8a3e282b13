// Fused optimizer steps: how many parameters, in how many groups. rates is (groups, columns).
#pragma once
#include "basics.h"

namespace fastnn {

// Columns: lr, weight_decay, momentum, nesterov (0 or 1).  g += wd w;  v = momentum v + g;  w -= lr (nesterov ? g + momentum v : v).
// With momentum 0, v is neither read nor written: w -= lr g.
struct SGD {
  int64_t count, groups;
  SGD(int64_t count, int64_t groups);
  Shape sizes() const, group_shape() const, rates_shape() const;
};

struct Adam {  // columns: lr, weight_decay, beta1, beta2, eps, decoupled (0 or 1).  t: the number of this step, from 1
  int64_t count, groups;
  Adam(int64_t count, int64_t groups);
  Shape sizes() const, group_shape() const, rates_shape() const, scalar_shape() const;
};

}  // namespace fastnn
