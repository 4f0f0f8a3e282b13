// A convolution and the batch normalisation behind it: the tiles of the product leave the moments of what they store, so that nobody
// reads z to take them. Direct convolutions have no tiles; there the normalisation takes its statistics itself.
#include "../batchnorm.cuh"

#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr WayNames with_moments = WAY_NAMES("implicit_gemm_moments");

}  // namespace

Plan conv2d_batchnorm_forward_plan(const Context& context, const Conv2dBatchNorm& v) {
  if (is_direct(v.conv)) return {direct_name(v.conv), batchnorm_forward_plan(context, v.norm).scratch_bytes};
  return {with_moments.of(context.precision, forward_vector(v.conv)), sections_scratch(v.norm)};
}

void conv2d_batchnorm_forward(const Context& context, const Conv2dBatchNorm& v, const T* x, const T* w, const R* b, const R* gamma,
                              const R* beta, const T* residual, R* running_mean, R* running_var, T* z, T* y, R* mean, R* rstd,
                              void* scratch) {
  if (is_direct(v.conv)) {
    direct_forward(context, v.conv, {x, w, b, z});
    return batchnorm_forward(context, v.norm, z, gamma, beta, residual, running_mean, running_var, y, mean, rstd, scratch);
  }
  Section* sections = static_cast<Section*>(scratch);
  gemm_forward(context, v.conv, {x, w, b, z}, sections);
  batchnorm_from_sections(context, v.norm, z, {gamma, beta, residual, running_mean, running_var, y, mean, rstd}, sections);
}

}  // namespace fastnn::FASTNN_TABLE
