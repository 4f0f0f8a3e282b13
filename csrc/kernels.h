// The structs that kernels take: geometry and hyper-parameters that check themselves when they are made.
//
// Letters used everywhere: N batch, C input channels, H x W input map, K output channels, R x S window, P x Q output map, G groups.
// Constructors and methods live in kernels.cpp, compiled once for the plainest processor: nothing here may have an inline body, since the
// linker could keep a copy made with AVX-512 for everybody. Kernels read the fields.
#pragma once
#include <cstdint>

namespace fastnn {

constexpr int max_rank = 8;

struct Shape {
  int rank = 0;
  int64_t d[max_rank] = {};
};

struct Pair {  // (vertical, horizontal)
  int64_t h, w;
};

enum class Activation : int { none, relu, silu };

// What a PLANNED kernel announces before it runs. The algorithm is a function of (shape, instruction set, precision) alone.
struct Plan {
  const char* algorithm;
  int64_t scratch_bytes;
};

// A list operand. Element i has size[i] elements at data[i]; 64-byte alignment is not promised.
template <class E>
struct List {
  E* const* data;
  const int64_t* size;
  int64_t count;
};

// y[n,k,p,q] = b[k] + sum over c,r,s of x[n, g C/G + c, p stride - pad + r dilation, q stride - pad + s dilation] w[k,c,r,s]
// with g = k / (K/G)
struct Conv2d {
  int64_t N, C, H, W, K, R, S, G, P, Q;
  int64_t stride_h, stride_w, dilation_h, dilation_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
  Conv2d(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups);
  Shape x_shape() const, w_shape() const, k_shape() const, y_shape() const;
};

// y[b] = op(a[b]) op(b[b]) + bias. op(a) is M x K, op(b) is K x N. With batch = 1 leading dimensions of `a` are folded into M.
struct MatMul {
  int64_t batch, M, N, K;
  bool transpose_a, transpose_b;  // a lies [K][M], b lies [N][K]
  Shape a, b, y;
  MatMul(Shape a, Shape b, bool transpose_a, bool transpose_b);
  Shape a_shape() const, b_shape() const, n_shape() const, y_shape() const;
};

// x seen as rows x C in memory order: (N, C), or (N, C, H, W) with rows = N H W.
struct Channels {
  int64_t rows, C;
  Shape x;
  explicit Channels(Shape x);
  Shape x_shape() const, c_shape() const;
};

// y[n,c,p,q] = max over r,s of x[n, c, p stride - pad + r, q stride - pad + s]; padding never wins, NaN does, ties go to the first.
// index = r S + s of the winner. P = floor((H + 2 pad - R) / stride) + 1, ceil with ceil_mode (the last window starts inside the map).
struct Pool2d {
  int64_t N, C, H, W, R, S, P, Q, stride_h, stride_w, pad_h, pad_w;
  Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode);
  Shape x_shape() const, y_shape() const;
};

struct GlobalPool {  // (N, C, H, W) -> (N, C, 1, 1)
  int64_t N, C, H, W;
  explicit GlobalPool(Shape x);
  Shape x_shape() const, y_shape() const;
};

struct BatchNorm {
  int64_t rows, C;       // x seen as rows x C
  double eps, momentum;  // momentum is the weight of the new value (PyTorch's convention)
  Activation activation;
  bool training;  // backward: statistics depend on x (training) or are constants (evaluation)
  bool residual;  // whether a residual is added before the activation
  Shape x;
  BatchNorm(Shape x, double eps, double momentum, Activation activation, bool training, bool residual);
  Shape x_shape() const, c_shape() const, residual_shape() const;  // residual_shape: x's, or (0) without residual
};

struct Elements {
  int64_t n;
  Shape s;
  explicit Elements(Shape s);
  Shape shape() const;
};

struct Power {  // y = x^exponent
  int64_t n;
  double exponent;
  Shape s;
  Power(Shape s, double exponent);
  Shape shape() const;
};

// y[i] = x[i] / (1 - p) where word(i) >= threshold, else 0 (scale = 1 / (1 - p), threshold = round(p 2^32)).
// word(i) is word i % 4 of Philox block i / 4 (+ offset); the draw is state[1] + draw; i counts elements as they lie in memory.
struct Dropout {
  int64_t n, draw, offset;
  double scale;
  uint64_t threshold;
  Shape s;
  Dropout(Shape s, double p, int64_t draw, int64_t offset);
  Shape shape() const, state_shape() const;
};

// Broadcasting y = a (op) b by numpy's rules. dims and strides are in memory order of y, outermost first, dimensions that run
// together already merged: element (i_0, ..., i_{rank-1}) of y is a[sum i_d a_stride_d] (op) b[sum i_d b_stride_d].
struct Binary {
  int rank;
  int64_t dims[max_rank], a_stride[max_rank], b_stride[max_rank];
  Shape a, b, y;
  Binary(Shape a, Shape b);
  Shape a_shape() const, b_shape() const, y_shape() const;
};

// Reduction over the axes of `mask` (bit d = logical dimension d). Kept and reduced dimensions stand in x's memory order, outermost
// first, merged where they run together, with their strides in x, and those of the kept ones in y.
// For max, index is the row-major position of the winner among the reduced dimensions *in memory order*; ties to the first, NaN wins.
struct Reduce {
  int kept_rank, reduced_rank;
  int64_t kept[max_rank], kept_stride[max_rank], kept_out_stride[max_rank];
  int64_t reduced[max_rank], reduced_stride[max_rank];
  int64_t kept_count, reduced_count;
  Shape x, y;
  Reduce(Shape x, uint32_t mask, bool keepdims);
  Shape x_shape() const, y_shape() const;
};

// A strided view of x made dense: y, read in its memory order with dims, is x[offset + sum i_d stride_d].
// copy_backward needs a view that takes no element twice.
struct Strided {
  int rank;
  int64_t dims[max_rank], stride[max_rank], offset;
  Shape x, y;
  Strided(Shape x, Shape y, Shape dims, Shape stride, int64_t offset);
  Shape x_shape() const, y_shape() const;
};

// loss_i = w[t_i] (1 - e) (lse_i - z_i[t_i]) + e / C sum_c w[c] (lse_i - z_i[c]); 0 where t_i = ignore_index.
// mean divides by the sum of w[t_i] over the samples that count (`divisor`), as PyTorch does.
struct CrossEntropy {
  enum Reduction : int { none, mean, sum };
  int64_t N, C, ignore_index;
  double smoothing;
  Reduction reduction;
  CrossEntropy(Shape logits, double smoothing, int64_t ignore_index, int reduction);
  Shape x_shape() const, n_shape() const, c_shape() const, loss_shape() const, scalar_shape() const;
};

// Parameters of a fused optimizer step: how many, in how many groups. rates is (groups, columns).
// Columns: lr, weight_decay, momentum, nesterov (0 or 1).  g += wd w;  v = momentum v + g;  w -= lr (nesterov ? g + momentum v : v).
// With momentum 0, v is neither read nor written: w -= lr g.
struct SGD {
  int64_t count, groups;
  SGD(int64_t count, int64_t groups);
  Shape sizes() const, group_shape() const, rates_shape() const;
};

struct Adam {  // columns: lr, weight_decay, beta1, beta2, eps, decoupled (0 or 1).  t: the number of this step, from 1
  int64_t count, groups;
  Adam(int64_t count, int64_t groups);
  Shape sizes() const, group_shape() const, rates_shape() const, scalar_shape() const;
};

// y[i, c, h, w] = scale[c] source[index[i], c, h, w] + shift[c]; rank 4, or rank 2 (rows of C features)
struct Gather {
  int64_t n, batch, C, pixels;  // n images in source; pixels = H W (1 for rank 2)
  Shape source;
  Gather(Shape source, int64_t batch);
  Shape source_shape() const, index_shape() const, c_shape() const, y_shape() const;
};

struct Random {  // bits[i] = 32-bit word i of Philox(seed = state[0]; draw = state[1] + draw, purpose)
  int64_t n, draw, purpose;
  Random(int64_t n, int64_t draw, int64_t purpose);
  Shape state_shape() const, shape() const;
};

}  // namespace fastnn
