// Convolutions in groups of a few channels, depthwise ones above all: each thread makes its own elements of the result. Memory decides how
// long they take, so they are computed in float32 at every precision.
#include "../activation.cuh"
#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t narrow = 8;  // channels of a group
constexpr int direct_threads = 128, strip = 4;

// One side: the position that tap t of output position `at` reads, or -1. Backward, dx at h meets dy at (h + pad - t dilation) / stride.
template <bool backward>
struct Side {
  int stride, dilation, pad, taps, size;
  __device__ __forceinline__ int operator()(int at, int t) const {
    if (!backward) {
      const int position = at * stride - pad + t * dilation;
      return unsigned(position) < unsigned(size) ? position : -1;
    }
    const int position = at + pad - t * dilation;
    return position < 0 || position % stride || position / stride >= size ? -1 : position / stride;
  }
};

// Forward: x, w -> y; backward: dy, w -> dx. An element of the result gathers the pixels that its taps reach.
template <bool backward>
struct Gather {
  const T* in;
  const T* w;
  const float* bias;
  T* out;
  Side<backward> down, across;
  int64_t rows, in_channels, out_channels;
  int height, width, in_group, out_group;  // of the result; channels of a group
  int channel_step, filter;                // in w: from one channel of the group to the next; R S C / G
  Activation activation;

  // Where the weights of an output channel begin
  __device__ __forceinline__ const T* weights(int64_t channel) const {
    return w + (backward ? channel / out_group * in_group * filter + channel % out_group : channel * filter);
  }
};

// A thread: `vector` channels (more than one only in depthwise) of `strip` neighbours in a row.
template <bool backward, int vector>
__global__ void __launch_bounds__(direct_threads, 3) gather_taps(Gather<backward> g, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * direct_threads + threadIdx.x;
  if (i >= count) return;
  const int64_t packs = g.out_channels / vector, strips = divide_up(g.width, strip);
  const int64_t channel = i % packs * vector, row = i / packs / strips;
  const int column = int(i / packs % strips) * strip, h_out = int(row % g.height);
  const int64_t in_channel = channel / g.out_group * g.in_group;
  const T* image = g.in + row / g.height * g.down.size * g.across.size * g.in_channels + in_channel;
  const int tap_step = backward ? g.out_group : g.in_group;  // C / G
  float sum[strip][vector];
  UNROLL for (int v = 0; v < vector; v++) UNROLL for (int q = 0; q < strip; q++) sum[q][v] = g.bias ? g.bias[channel + v] : 0.0f;
  for (int r = 0; r < g.down.taps; r++) {
    const int h = g.down(h_out, r);
    if (h < 0) continue;
    for (int s = 0; s < g.across.taps; s++)
      for (int c = 0; c < g.in_group; c++) {
        float weight[vector];
        UNROLL for (int v = 0; v < vector; v++) weight[v] =
            float(g.weights(channel + v)[(r * g.across.taps + s) * tap_step + c * g.channel_step]);
        UNROLL for (int q = 0; q < strip; q++) {
          const int w = column + q < g.width ? g.across(column + q, s) : -1;
          if (w < 0) continue;
          const auto pack = *reinterpret_cast<const Pack<T, vector>*>(image + int64_t(h * g.across.size + w) * g.in_channels + c);
          UNROLL for (int v = 0; v < vector; v++) sum[q][v] = fmaf(float(pack.e[v]), weight[v], sum[q][v]);
        }
      }
  }
  T* out = g.out + (row * g.width + column) * g.out_channels + channel;
  UNROLL for (int q = 0; q < strip; q++) {
    if (column + q >= g.width) continue;
    activate(g.activation, sum[q]);
    Pack<T, vector> pack;
    UNROLL for (int v = 0; v < vector; v++) pack.e[v] = T(sum[q][v]);
    *reinterpret_cast<Pack<T, vector>*>(out + q * g.out_channels) = pack;
  }
}

template <bool backward>
void gather(const Context& context, const Gather<backward>& g) {
  const bool depthwise = g.in_group == 1 && g.out_group == 1;
  const bool whole = depthwise && is_whole(g.in, g.in_channels) && is_whole(g.out, g.out_channels);
  const int64_t count = g.rows * divide_up(g.width, strip) * (g.out_channels / (whole ? whole_vector : 1));
  launch(context, whole ? gather_taps<backward, whole_vector> : gather_taps<backward, 1>, dim3(unsigned(divide_up(count, direct_threads))),
         direct_threads, g, count);
}

// --- backward to the weight

struct WeightSums {
  const T* x;
  const T* dy;
  float* sums;  // [part][K][R S C / G]
  Side<false> down, across;
  int64_t C, K, rows, parts;  // rows of y, all images
  int P, Q, group_C, group_K, filter;
};

// A thread: one weight's sum over the rows of a part; long sums are sums of those of rows.
__global__ void __launch_bounds__(direct_threads) sum_weights(WeightSums d, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * direct_threads + threadIdx.x;
  if (i >= count) return;
  const int64_t k = i % d.K, part = i / d.K / d.filter;
  const int place = int(i / d.K % d.filter), c = place % d.group_C, s = place / d.group_C % d.across.taps;
  const int r = place / d.group_C / d.across.taps;
  const T* x = d.x + k / d.group_K * d.group_C + c;
  float total = 0;
  for (int64_t row = d.rows * part / d.parts; row < d.rows * (part + 1) / d.parts; row++) {
    const int h = d.down(int(row % d.P), r);
    if (h < 0) continue;
    const T* in = x + (row / d.P * d.down.size + h) * d.across.size * d.C;
    const T* dy = d.dy + row * d.Q * d.K + k;
    float sum = 0;
    for (int q = 0; q < d.Q; q++) {
      const int w = d.across(q, s);
      if (w >= 0) sum = fmaf(float(dy[q * d.K]), float(in[w * d.C]), sum);
    }
    total += sum;
  }
  d.sums[(part * d.K + k) * d.filter + place] = total;
}

int filter_size(const Conv2d& v) { return int(v.R * v.S * v.C / v.G); }

int64_t weight_parts(const Conv2d& v) {
  constexpr int64_t enough = multiprocessors * 2048, most = 256;  // threads; parts
  return larger<int64_t>(1, smaller(smaller(enough / larger<int64_t>(1, v.K * filter_size(v)), most), v.N * v.P));
}

template <bool backward>
Side<backward> down_side(const Conv2d& v) {
  return {int(v.stride_h), int(v.dilation_h), int(v.pad_top), int(v.R), int(backward ? v.P : v.H)};
}
template <bool backward>
Side<backward> across_side(const Conv2d& v) {
  return {int(v.stride_w), int(v.dilation_w), int(v.pad_left), int(v.S), int(backward ? v.Q : v.W)};
}

}  // namespace

bool is_direct(const Conv2d& v) { return v.G > 1 && v.C / v.G <= narrow && v.K / v.G <= narrow; }
const char* direct_name(const Conv2d& v) { return v.C == v.G && v.K == v.G ? "depthwise" : "narrow_groups"; }
int64_t direct_weight_scratch(const Conv2d& v) { return weight_parts(v) * v.K * filter_size(v) * int64_t(sizeof(float)); }

void direct_forward(const Context& context, const Conv2d& v, const ConvOperands& o) {
  const Gather<false> g = {
      o.in,     o.with,         o.bias,         o.out, down_side<false>(v), across_side<false>(v), v.N * v.P, v.C, v.K, int(v.P),
      int(v.Q), int(v.C / v.G), int(v.K / v.G), 1,     filter_size(v),      v.activation};
  gather(context, g);
}

void direct_backward_input(const Context& context, const Conv2d& v, const ConvOperands& o) {
  const Gather<true> g = {
      o.in, o.with,   nullptr,  o.out,          down_side<true>(v), across_side<true>(v), v.N * v.H,      v.K,
      v.C,  int(v.H), int(v.W), int(v.K / v.G), int(v.C / v.G),     filter_size(v),       filter_size(v), Activation::none};
  gather(context, g);
}

void direct_backward_weight(const Context& context, const Conv2d& v, const T* x, const T* dy, R* dw, void* scratch) {
  const WeightSums d = {x,
                        dy,
                        static_cast<float*>(scratch),
                        down_side<false>(v),
                        across_side<false>(v),
                        v.C,
                        v.K,
                        v.N * v.P,
                        weight_parts(v),
                        int(v.P),
                        int(v.Q),
                        int(v.C / v.G),
                        int(v.K / v.G),
                        filter_size(v)};
  const int64_t count = d.parts * v.K * d.filter;
  launch(context, sum_weights, dim3(unsigned(divide_up(count, direct_threads))), direct_threads, d, count);
  combine(context, {d.sums, v.K * d.filter, 1, d.parts, 1}, nullptr, dw);
}

}  // namespace fastnn::FASTNN_TABLE
