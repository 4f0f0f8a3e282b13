// Depthwise convolution: one input and one output channel per group, so that vectors run over the channels and nothing is shared
// between them. Weights are transposed to [tap][C]. Forward and backward to the input gather, for each pixel of the output, the pixels
// that its taps reach; backward to the weight sums over blocks of rows.
#include "../activation.h"
#include "../scratch.h"
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t least_block_work = 64 * 1024, most_parts = 32;  // multiply-adds in a block; partial sums of the weight gradient

struct Reached {  // by one tap of one pixel: offset of the pixel in the input, and of the tap's weights
  int64_t in, weight;
};

struct Parts {
  real* weights;  // [tap][C]; the partial sums [part][tap][C] when going backward to the weight
  Reached* reached;
  int64_t bytes;
};

int64_t sum_parts(const Conv2d& v) {
  return larger(1, smaller(smaller(most_parts, v.N * v.P), v.N * v.P * v.Q * v.C * v.R * v.S / least_block_work));
}

Parts layout(const Context& context, const Conv2d& v, int64_t parts, void* base) {
  Parts result;
  Scratch scratch(base);
  result.weights = scratch.take<real>(parts * v.R * v.S * v.C);
  result.reached = scratch.take<Reached>(context.workers * v.R * v.S);
  result.bytes = scratch.bytes();
  return result;
}

// One axis: the input position that tap t of output position `at` reads, or -1. Forward it is at stride - pad + t dilation.
struct Forward {
  int64_t stride, pad, dilation, size;
  INLINE int64_t operator()(int64_t at, int64_t t) const {
    const int64_t position = at * stride - pad + t * dilation;
    return position < 0 || position >= size ? -1 : position;
  }
};
// Backward, dx at h meets dy at (h + pad - t dilation) / stride where that leaves no rest.
struct Backward {
  int64_t stride, pad, dilation, size;
  INLINE int64_t operator()(int64_t at, int64_t t) const {
    const int64_t position = at + pad - t * dilation;
    return position < 0 || position % stride || position / stride >= size ? -1 : position / stride;
  }
};

template <Activation activation, class Axis>
void gather(const Context& context, const Conv2d& v, const ConvOperands& o, Axis down, Axis across, int64_t out_height, int64_t out_width,
            const Parts& parts) {
  const int64_t taps = v.R * v.S, in_image = down.size * across.size * v.C;
  for (int64_t c = 0; c < v.C; c++)
    for (int64_t t = 0; t < taps; t++) parts.weights[t * v.C + c] = o.with[c * taps + t];
  const int64_t rows = v.N * out_height, together = larger(1, least_block_work / (out_width * v.C * taps));
  parallel(context, divide_up(rows, together), [&](int64_t block, int worker) {
    Reached* reached = parts.reached + worker * taps;
    for (int64_t row = block * together; row < smaller(rows, (block + 1) * together); row++)
      for (int64_t q = 0; q < out_width; q++) {
        const storage* in = o.in + row / out_height * in_image;
        int64_t count = 0;
        for (int64_t r = 0; r < v.R; r++) {
          const int64_t h = down(row % out_height, r);
          for (int64_t s = 0; h >= 0 && s < v.S; s++)
            if (const int64_t w = across(q, s); w >= 0) reached[count++] = {(h * across.size + w) * v.C, (r * v.S + s) * v.C};
        }
        storage* out = o.out + (row * out_width + q) * v.C;
        for_vectors(0, v.C, [&](int64_t c, auto load, auto store) {
          vec sum = o.bias ? load(o.bias + c) : zero();
          for (int64_t i = 0; i < count; i++) sum = fma(load(in + reached[i].in + c), load(parts.weights + reached[i].weight + c), sum);
          store(out + c, activate<activation>(sum));
        });
      }
  });
}

void forward(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Forward down = {v.stride_h, v.pad_top, v.dilation_h, v.H}, across = {v.stride_w, v.pad_left, v.dilation_w, v.W};
  with_activation(v.activation, [&](auto constant) {
    gather<decltype(constant)::activation>(context, v, o, down, across, v.P, v.Q, layout(context, v, 1, scratch));
  });
}

void backward_input(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Backward down = {v.stride_h, v.pad_top, v.dilation_h, v.P}, across = {v.stride_w, v.pad_left, v.dilation_w, v.Q};
  gather<Activation::none>(context, v, o, down, across, v.H, v.W, layout(context, v, 1, scratch));
}

// One output row's part of the weight gradient, added to sums [tap][C].
void add_row(const Conv2d& v, const ConvOperands& o, int64_t row, real* sums) {
  const int64_t n = row / v.P, p = row % v.P;
  const Forward down = {v.stride_h, v.pad_top, v.dilation_h, v.H};
  const storage* dy = o.with + row * v.Q * v.C;
  for (int64_t r = 0; r < v.R; r++) {
    const int64_t h = down(p, r);
    if (h < 0) continue;
    for (int64_t s = 0; s < v.S; s++) {
      const int64_t first = s * v.dilation_w - v.pad_left;  // the column that output 0 reads
      const int64_t begin = first < 0 ? divide_up(-first, v.stride_w) : 0;
      const int64_t end = first < v.W ? smaller(v.Q, divide_up(v.W - first, v.stride_w)) : 0;
      const storage* x = o.in + ((n * v.H + h) * v.W + first) * v.C;
      real* tap_sums = sums + (r * v.S + s) * v.C;
      for_vectors(0, v.C, [&](int64_t c, auto load, auto store) {
        vec sum = zero();
        for (int64_t q = begin; q < end; q++) sum = fma(load(dy + q * v.C + c), load(x + q * v.stride_w * v.C + c), sum);
        store(tap_sums + c, load(tap_sums + c) + sum);
      });
    }
  }
}

void backward_weight(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const int64_t count = sum_parts(v), size = v.R * v.S * v.C, rows = v.N * v.P;
  const Parts parts = layout(context, v, count, scratch);
  parallel(context, count, [&](int64_t part, int) {
    real* sums = parts.weights + part * size;
    for_vectors(0, size, [&](int64_t i, auto, auto store) { store(sums + i, zero()); });
    for (int64_t row = rows * part / count; row < rows * (part + 1) / count; row++) add_row(v, o, row, sums);
  });
  for (int64_t c = 0; c < v.C; c++)
    for (int64_t t = 0; t < v.R * v.S; t++) {
      real sum = 0;
      for (int64_t part = 0; part < count; part++) sum += parts.weights[part * size + t * v.C + c];
      o.dw[c * v.R * v.S + t] = sum;
    }
}

int64_t gather_scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, 1, nullptr).bytes; }
int64_t sum_scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, sum_parts(v), nullptr).bytes; }
bool accepts(const Conv2d& v) { return v.G > 1 && v.C == v.G && v.K == v.G; }

}  // namespace

const ConvAlgorithm depthwise_forward = {"depthwise", accepts, gather_scratch_bytes, forward};
const ConvAlgorithm depthwise_backward_input = {"depthwise", accepts, gather_scratch_bytes, backward_input};
const ConvAlgorithm depthwise_backward_weight = {"depthwise", accepts, sum_scratch_bytes, backward_weight};

}  // namespace fastnn::FASTNN_TABLE
