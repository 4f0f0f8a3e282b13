// conv2d forward: rows are the pixels of y, columns the output channels of a group, the depth is (r, s, c).
#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int vector>
struct Forward {
  using Part = fastnn::FASTNN_TABLE::Part<WindowRows<vector>, Matrix<true, vector>, MomentsTarget>;
  Window window;
  const T* w;
  const float* bias;
  T* y;
  int64_t rows, K, group_K, depth;
  Activation activation;
  bool whole;
  Section* sections;

  __device__ __forceinline__ Part part(int64_t group) const {
    Window own = window;
    own.map += group * window.taps.C;
    const int64_t k = group * group_K;
    const MomentsTarget target = {{y + k, K, bias ? bias + k : nullptr, activation, whole}, sections ? sections + k : nullptr};
    return {{own}, {w + k * depth, group_K, depth, depth}, target, rows, group_K, 0, depth};
  }
};

template <int vector>
void run(const Context& context, const Conv2d& v, const ConvOperands& o, Section* sections) {
  const int64_t rows = v.N * v.P * v.Q, K = v.K / v.G, depth = v.R * v.S * v.C / v.G;
  const Forward<vector> problem = {forward_window(v, o.in), o.with,  o.bias, o.out, rows, v.K, K, depth, v.activation,
                                   is_whole(o.out, K),      sections};
  const Vectors vectors(forward_vector(v), vector);
  with_way(context.precision, vectors,
           [&](auto way) { multiply<decltype(way), vector>(context, tile_size(rows, K, depth, v.G, vectors), problem, rows, K, v.G); });
}

}  // namespace

void gemm_forward(const Context& context, const Conv2d& v, const ConvOperands& o, Section* sections) {
  const bool whole = is_whole(o.in, v.C / v.G) && is_aligned(o.with, 16);
  whole ? run<whole_vector>(context, v, o, sections) : run<1>(context, v, o, sections);
}

Plan conv2d_forward_plan(const Context& context, const Conv2d& v) {
  return {is_direct(v) ? direct_name(v) : implicit_gemm.of(context.precision, forward_vector(v)), 0};
}

void conv2d_forward(const Context& context, const Conv2d& v, const T* x, const T* w, const R* b, T* y, void*) {
  is_direct(v) ? direct_forward(context, v, {x, w, b, y}) : gemm_forward(context, v, {x, w, b, y}, nullptr);
}

}  // namespace fastnn::FASTNN_TABLE
