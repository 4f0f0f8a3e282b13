// A convolution's weight gradient out of what its input was normalised from: algorithms make x again where they gather it, or it is made as
// a whole before.
#include "conv2d/algorithm.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

bool made_on_the_way(const Context& context, const Conv2d& conv) {
  const ConvAlgorithm& algorithm = backward_weight_algorithm(context, conv);
  return algorithm.normalizes && algorithm.normalizes(conv);
}

// Evaluation with a variance of 0 and an epsilon of 1, whose reciprocal root is exact, and with gamma rstd for gamma: the bits of training.
BatchNorm evaluation(const Conv2d& v) { return {v.x_shape(), 1, 0, v.activation, false, false}; }

struct Parts {
  storage* x;
  real *scale, *variance, *mean, *rstd;  // the last two are written and not read
  char* rest;
  int64_t bytes;
};

Parts lay_out(const Context& context, const Conv2d& v, void* base) {
  Parts p;
  Scratch scratch(base);
  p.x = scratch.take<storage>(v.N * v.H * v.W * v.C);
  p.scale = scratch.take<real>(v.C), p.variance = scratch.take<real>(v.C), p.mean = scratch.take<real>(v.C),
  p.rstd = scratch.take<real>(v.C);
  const int64_t norm = batchnorm_inference_plan(context, evaluation(v)).scratch_bytes;
  p.rest = scratch.take<char>(larger(norm, conv2d_backward_weight_plan(context, v).scratch_bytes));
  p.bytes = scratch.bytes();
  return p;
}

}  // namespace

Plan conv2d_normalized_backward_weight_plan(const Context& context, const Conv2d& v) {
  const Plan plan = conv2d_backward_weight_plan(context, v);
  return made_on_the_way(context, v) ? plan : Plan{plan.algorithm, lay_out(context, v, nullptr).bytes};
}

void conv2d_normalized_backward_weight(const Context& context, const Conv2d& v, const T* z, const R* gamma, const R* beta, const R* mean,
                                       const R* rstd, const T* dy, R* dw, void* scratch) {
  const ConvAlgorithm& algorithm = backward_weight_algorithm(context, v);
  if (made_on_the_way(context, v)) {
    const Normalized normalized = {gamma, beta, mean, rstd};
    return algorithm.run(context, v, weight_operands(z, dy, dw, &normalized), scratch);
  }
  const Parts p = lay_out(context, v, scratch);
  for (int64_t c = 0; c < v.C; c++) p.scale[c] = gamma ? gamma[c] * rstd[c] : rstd[c], p.variance[c] = 0;
  batchnorm_inference(context, evaluation(v), z, p.scale, beta, nullptr, mean, p.variance, p.x, p.mean, p.rstd, p.rest);
  algorithm.run(context, v, weight_operands(p.x, dy, dw), p.rest);
}

}  // namespace fastnn::FASTNN_TABLE
