// A convolution and the batch normalisation behind it, one after the other: the bits of the two rows.
#include "../scratch.h"

namespace fastnn::FASTNN_TABLE {

Plan conv2d_batchnorm_forward_plan(const Context& context, const Conv2dBatchNorm& v) {
  const Plan conv = conv2d_forward_plan(context, v.conv), norm = batchnorm_forward_plan(context, v.norm);
  return {conv.algorithm, larger(conv.scratch_bytes, norm.scratch_bytes)};
}

void conv2d_batchnorm_forward(const Context& context, const Conv2dBatchNorm& v, const T* x, const T* w, const R* b, const R* gamma,
                              const R* beta, const T* residual, R* running_mean, R* running_var, T* z, T* y, R* mean, R* rstd,
                              void* scratch) {
  conv2d_forward(context, v.conv, x, w, b, z, scratch);
  batchnorm_forward(context, v.norm, z, gamma, beta, residual, running_mean, running_var, y, mean, rstd, scratch);
}

}  // namespace fastnn::FASTNN_TABLE
