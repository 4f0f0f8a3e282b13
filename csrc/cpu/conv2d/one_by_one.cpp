// 1x1 windows of stride 1: a pixel's outputs are the product of its channels and the weights, and pixels lie one behind the other. So
// y = x w^T and dx = dy w, products of matrices that read their left operand where it lies.
#include "../gemm.h"
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

bool accepts(const Conv2d& v) {
  return as_it_lies && v.G == 1 && v.R * v.S == 1 && v.stride_h * v.stride_w == 1 && v.P == v.H && v.Q == v.W;
}

template <bool forward>
MatMul product(const Conv2d& v) {
  return MatMul({2, {v.N * v.P * v.Q, forward ? v.C : v.K}}, {2, {v.K, v.C}}, false, forward, forward ? v.activation : Activation::none);
}

template <bool forward>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return matmul_plan(context, product<forward>(v)).scratch_bytes;
}

template <bool forward>
void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  matmul(context, product<forward>(v), o.in, o.with, o.bias, o.out, scratch);
}

}  // namespace

const ConvAlgorithm one_by_one_forward = {"one_by_one", accepts, scratch_bytes<true>, run<true>, false, true};
const ConvAlgorithm one_by_one_backward_input = {"one_by_one", accepts, scratch_bytes<false>, run<false>, false, true};

}  // namespace fastnn::FASTNN_TABLE
