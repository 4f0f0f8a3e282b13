// Plain loops: correct for every shape. They serve what no faster form accepts, such as groups of a few channels.
#include "../activation.h"
#include "../sum_lanes.h"
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

int64_t no_scratch(const Context&, const Conv2d&) { return 0; }
bool always(const Conv2d&) { return true; }

// sum of a[i] b[i]
INLINE real dot(const storage* a, const storage* b, int64_t count) {
  vec sum = zero();
  for_vectors(0, count, [&](int64_t i, auto load, auto) { sum = fma(load(a + i), load(b + i), sum); });
  return sum_lanes(sum);
}

// One output pixel and group: every output channel is a dot product per tap, over the input channels of the group.
INLINE void forward_pixel(const Conv2d& v, const ConvOperands& o, int64_t n, int64_t p, int64_t q, int64_t g) {
  const int64_t C = v.C / v.G, K = v.K / v.G;
  for (int64_t k = g * K; k < (g + 1) * K; k++) {
    real sum = o.bias ? o.bias[k] : 0;
    for (int64_t r = 0; r < v.R; r++) {
      const int64_t h = p * v.stride_h - v.pad_top + r * v.dilation_h;
      if (h < 0 || h >= v.H) continue;
      for (int64_t s = 0; s < v.S; s++) {
        const int64_t w = q * v.stride_w - v.pad_left + s * v.dilation_w;
        if (w < 0 || w >= v.W) continue;
        sum += dot(o.in + ((n * v.H + h) * v.W + w) * v.C + g * C, o.with + ((k * v.R + r) * v.S + s) * C, C);
      }
    }
    activate_in_place(v.activation, &sum, 1);  // of the sum, not of what is stored
    o.out[((n * v.P + p) * v.Q + q) * v.K + k] = storage(sum);
  }
}

void forward(const Context& context, const Conv2d& v, const ConvOperands& o, void*) {
  parallel(context, v.N * v.P, [&](int64_t row, int) {
    for (int64_t q = 0; q < v.Q; q++)
      for (int64_t g = 0; g < v.G; g++) forward_pixel(v, o, row / v.P, row % v.P, q, g);
  });
}

// One input pixel and group: dx += dy[k] w[k] for each tap that led from this pixel to an output.
INLINE void backward_input_pixel(const Conv2d& v, const ConvOperands& o, int64_t n, int64_t h, int64_t w, int64_t g) {
  const int64_t C = v.C / v.G, K = v.K / v.G;
  storage* dx = o.out + ((n * v.H + h) * v.W + w) * v.C + g * C;
  for_vectors(0, C, [&](int64_t c, auto load, auto store) {
    vec sum = zero();
    for (int64_t r = 0; r < v.R; r++) {
      const int64_t y = h + v.pad_top - r * v.dilation_h;
      if (y < 0 || y % v.stride_h || y / v.stride_h >= v.P) continue;
      for (int64_t s = 0; s < v.S; s++) {
        const int64_t x = w + v.pad_left - s * v.dilation_w;
        if (x < 0 || x % v.stride_w || x / v.stride_w >= v.Q) continue;
        const storage* dy = o.in + ((n * v.P + y / v.stride_h) * v.Q + x / v.stride_w) * v.K;
        for (int64_t k = g * K; k < (g + 1) * K; k++) sum = fma(set(dy[k]), load(o.with + ((k * v.R + r) * v.S + s) * C + c), sum);
      }
    }
    store(dx + c, sum);
  });
}

void backward_input(const Context& context, const Conv2d& v, const ConvOperands& o, void*) {
  parallel(context, v.N * v.H, [&](int64_t row, int) {
    for (int64_t w = 0; w < v.W; w++)
      for (int64_t g = 0; g < v.G; g++) backward_input_pixel(v, o, row / v.H, row % v.H, w, g);
  });
}

// One tap of one output channel: the sum over all pixels of dy x, row by row so that long sums stay accurate.
INLINE void backward_weight_tap(const Conv2d& v, const ConvOperands& o, int64_t k, int64_t r, int64_t s) {
  const int64_t C = v.C / v.G, g = k / (v.K / v.G);
  for_vectors(0, C, [&](int64_t c, auto load, auto store) {
    vec sum = zero();
    for (int64_t n = 0; n < v.N; n++)
      for (int64_t p = 0; p < v.P; p++) {
        const int64_t h = p * v.stride_h - v.pad_top + r * v.dilation_h;
        if (h < 0 || h >= v.H) continue;
        vec row = zero();
        for (int64_t q = 0; q < v.Q; q++) {
          const int64_t w = q * v.stride_w - v.pad_left + s * v.dilation_w;
          if (w < 0 || w >= v.W) continue;
          row = fma(set(o.with[((n * v.P + p) * v.Q + q) * v.K + k]), load(o.in + ((n * v.H + h) * v.W + w) * v.C + g * C + c), row);
        }
        sum += row;
      }
    store(o.dw + ((k * v.R + r) * v.S + s) * C + c, sum);
  });
}

void backward_weight(const Context& context, const Conv2d& v, const ConvOperands& o, void*) {
  parallel(context, v.K, [&](int64_t k, int) {
    for (int64_t r = 0; r < v.R; r++)
      for (int64_t s = 0; s < v.S; s++) backward_weight_tap(v, o, k, r, s);
  });
}

}  // namespace

const ConvAlgorithm plain_forward = {"plain", always, no_scratch, forward};
const ConvAlgorithm plain_backward_input = {"plain", always, no_scratch, backward_input};
const ConvAlgorithm plain_backward_weight = {"plain", always, no_scratch, backward_weight};

}  // namespace fastnn::FASTNN_TABLE
