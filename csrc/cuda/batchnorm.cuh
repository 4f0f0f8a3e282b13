// Batch normalisation of what a convolution has just made, with the moments that it left on the way.
#pragma once
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {

struct NormOperands {
  const R *gamma, *beta;
  const T* residual;
  R *running_mean, *running_var;
  T* y;
  R *mean, *rstd;
};

#pragma GCC visibility push(hidden)
int64_t sections_scratch(const BatchNorm&);  // bytes: the sections, and behind them what they are joined to
void batchnorm_from_sections(const Context&, const BatchNorm&, const T* x, const NormOperands&, Section* sections);
#pragma GCC visibility pop

}  // namespace fastnn::FASTNN_TABLE
