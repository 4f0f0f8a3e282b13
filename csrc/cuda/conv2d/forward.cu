// conv2d forward: rows are the pixels of y, columns the output channels of a group, the depth is (r, s, c).
#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int vector>
struct Forward {
  using Part = fastnn::FASTNN_TABLE::Part<WindowRows<vector>, Matrix<true, vector>, RowTarget<T>>;
  Window window;
  const T* w;
  const float* bias;
  T* y;
  int64_t rows, K, group_K, depth;
  bool whole;

  __device__ __forceinline__ Part part(int64_t group) const {
    Window own = window;
    own.map += group * window.taps.C;
    const int64_t k = group * group_K;
    return {{own}, {w + k * depth, group_K, depth, depth}, {y + k, K, bias ? bias + k : nullptr, whole}, rows, group_K, 0, depth};
  }
};

template <int vector>
void run(const Context& context, const Conv2d& v, const T* x, const T* w, const float* bias, T* y) {
  const int64_t rows = v.N * v.P * v.Q, K = v.K / v.G, depth = v.R * v.S * v.C / v.G;
  const Forward<vector> problem = {forward_window(v, x), w, bias, y, rows, v.K, K, depth, is_whole(y, K)};
  with_way(context.precision,
           [&](auto way) { multiply<decltype(way), vector>(context, tile_size(rows, K, v.G, vector), problem, rows, K, v.G); });
}

}  // namespace

Plan conv2d_forward_plan(const Context& context, const Conv2d& v) {
  return {is_direct(v) ? direct_name(v) : implicit_gemm.of(context.precision), 0};
}

void conv2d_forward(const Context& context, const Conv2d& v, const T* x, const T* w, const R* b, T* y, void*) {
  if (is_direct(v)) return direct_forward(context, v, {x, w, b, y});
  const bool whole = is_whole(x, v.C / v.G) && is_aligned(w, 16);
  whole ? run<whole_vector>(context, v, x, w, b, y) : run<1>(context, v, x, w, b, y);
}

}  // namespace fastnn::FASTNN_TABLE
