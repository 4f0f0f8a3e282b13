// The structs of kernels.h check themselves: an impossible geometry is refused here, with the arithmetic spelled out.
#include "kernels.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "array.h"

namespace fastnn {
namespace {

template <class... Parts>
[[noreturn]] void refuse(Parts&&... parts) {
  std::string message;
  ((message +=
    [](auto&& part) {
      using P = std::decay_t<decltype(part)>;
      if constexpr (std::is_same_v<P, Shape>) {
        return text(part);
      } else if constexpr (std::is_arithmetic_v<P>) {
        return std::is_integral_v<P> ? std::to_string(int64_t(part)) : std::to_string(double(part));
      } else {
        return std::string(part);
      }
    }(parts)),
   ...);
  throw std::invalid_argument(message);
}

template <class... Sizes>
Shape shape_of(Sizes... sizes) {
  return {int(sizeof...(sizes)), {int64_t(sizes)...}};
}

void expect_rank(const char* what, const Shape& x, int rank, const char* letters) {
  if (x.rank != rank) refuse(what, " expects an input of shape ", letters, ", got ", x);
}

int64_t windows(const char* what, const char* axis, int64_t size, int64_t before, int64_t after, int64_t reach, int64_t stride) {
  const int64_t padded = size + before + after;
  if (padded < reach)
    refuse(what, ": a window of ", axis, " ", reach, " does not fit into ", size, " + ", before, " + ", after, " padding = ", padded,
           "; pad more or use a smaller window");
  return (padded - reach) / stride + 1;
}

void expect_positive(const char* what, const char* name, Pair p) {
  if (p.h < 1 || p.w < 1) refuse(what, ": ", name, " must be at least 1, got (", p.h, ", ", p.w, ")");
}

void expect_not_negative(const char* what, const char* name, Pair p) {
  if (p.h < 0 || p.w < 0) refuse(what, ": ", name, " must not be negative, got (", p.h, ", ", p.w, ")");
}

}  // namespace

// --- convolution and matrix product

Conv2d::Conv2d(Shape x, Shape w, Pair stride, Pair pad_before, Pair pad_after, Pair dilation, int64_t groups) {
  expect_rank("conv2d", x, 4, "(N, C, H, W)");
  if (w.rank != 4) refuse("conv2d expects a weight of shape (K, C / groups, R, S), got ", w);
  expect_positive("conv2d", "stride", stride);
  expect_positive("conv2d", "dilation", dilation);
  expect_not_negative("conv2d", "padding", pad_before);
  expect_not_negative("conv2d", "padding", pad_after);
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], K = w.d[0], R = w.d[2], S = w.d[3], G = groups;
  if (G < 1 || C % G || K % G) refuse("conv2d: groups = ", G, " must divide both ", C, " input and ", K, " output channels");
  if (w.d[1] != C / G) refuse("conv2d: got ", C, " channels from input ", x, "; weight ", w, " with groups = ", G, " expects ", w.d[1] * G);
  if (C < 1 || K < 1 || R < 1 || S < 1) refuse("conv2d: channels and window must be at least 1, got input ", x, " and weight ", w);
  stride_h = stride.h, stride_w = stride.w, dilation_h = dilation.h, dilation_w = dilation.w;
  pad_top = pad_before.h, pad_left = pad_before.w, pad_bottom = pad_after.h, pad_right = pad_after.w;
  P = windows("conv2d", "height", H, pad_top, pad_bottom, (R - 1) * dilation_h + 1, stride_h);
  Q = windows("conv2d", "width", W, pad_left, pad_right, (S - 1) * dilation_w + 1, stride_w);
}
Shape Conv2d::x_shape() const { return shape_of(N, C, H, W); }
Shape Conv2d::w_shape() const { return shape_of(K, C / G, R, S); }
Shape Conv2d::k_shape() const { return shape_of(K); }
Shape Conv2d::y_shape() const { return shape_of(N, K, P, Q); }

MatMul::MatMul(Shape a_, Shape b_, bool ta, bool tb) : transpose_a(ta), transpose_b(tb), a(a_), b(b_) {
  if (a.rank < 2 || b.rank < 2 || a.rank == 4 || b.rank == 4)
    refuse("matmul expects operands of rank 2, 3 or 5 and more, got ", a, " and ", b);
  const int64_t a_rows = a.d[a.rank - 2], a_columns = a.d[a.rank - 1], b_rows = b.d[b.rank - 2], b_columns = b.d[b.rank - 1];
  M = ta ? a_columns : a_rows, K = ta ? a_rows : a_columns, N = tb ? b_rows : b_columns;
  const int64_t b_inner = tb ? b_columns : b_rows;
  if (K != b_inner)
    refuse("matmul: ", a, ta ? " transposed" : "", " times ", b, tb ? " transposed" : "", ": the inner sizes ", K, " and ", b_inner,
           " differ");
  batch = 1;
  y = a;
  y.d[a.rank - 2] = M, y.d[a.rank - 1] = N;
  const bool shared_b = b.rank == 2;
  if (a.rank > 2 && shared_b && !ta) {  // every row of a meets the same b
    for (int i = 0; i < a.rank - 2; i++) M *= a.d[i];
    return;
  }
  if (a.rank != b.rank) refuse("matmul: leading dimensions of ", a, " and ", b, " differ; reshape one of them");
  for (int i = 0; i < a.rank - 2; i++) {
    if (a.d[i] != b.d[i]) refuse("matmul: leading dimensions of ", a, " and ", b, " differ");
    batch *= a.d[i];
  }
}
Shape MatMul::a_shape() const { return a; }
Shape MatMul::b_shape() const { return b; }
Shape MatMul::n_shape() const { return shape_of(N); }
Shape MatMul::y_shape() const { return y; }

Channels::Channels(Shape x_) : x(x_) {
  if (x.rank != 2 && x.rank != 4) refuse("channel_sum expects (N, C) or (N, C, H, W), got ", x);
  C = x.d[1];
  rows = x.rank == 2 ? x.d[0] : x.d[0] * x.d[2] * x.d[3];
}
Shape Channels::x_shape() const { return x; }
Shape Channels::c_shape() const { return shape_of(C); }

// --- pooling

Pool2d::Pool2d(Shape x, Pair kernel, Pair stride, Pair pad, bool ceil_mode) {
  expect_rank("max_pool2d", x, 4, "(N, C, H, W)");
  expect_positive("max_pool2d", "kernel_size", kernel);
  expect_positive("max_pool2d", "stride", stride);
  expect_not_negative("max_pool2d", "padding", pad);
  if (2 * pad.h > kernel.h || 2 * pad.w > kernel.w)
    refuse("max_pool2d: padding (", pad.h, ", ", pad.w, ") must be at most half of kernel_size (", kernel.h, ", ", kernel.w, ")");
  if (kernel.h * kernel.w > 256)
    refuse("max_pool2d: a window of ", kernel.h, " x ", kernel.w, " = ", kernel.h * kernel.w,
           " exceeds 256 (the winner is kept as one byte)");
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3], R = kernel.h, S = kernel.w;
  stride_h = stride.h, stride_w = stride.w, pad_h = pad.h, pad_w = pad.w;
  P = windows("max_pool2d", "height", H, pad_h, pad_h, R, stride_h);
  Q = windows("max_pool2d", "width", W, pad_w, pad_w, S, stride_w);
  if (ceil_mode) {  // one more window when pixels are left over and it starts inside the map
    if ((H + 2 * pad_h - R) % stride_h && P * stride_h < H + pad_h) P++;
    if ((W + 2 * pad_w - S) % stride_w && Q * stride_w < W + pad_w) Q++;
  }
}
Shape Pool2d::x_shape() const { return shape_of(N, C, H, W); }
Shape Pool2d::y_shape() const { return shape_of(N, C, P, Q); }

GlobalPool::GlobalPool(Shape x) {
  expect_rank("global_avg_pool2d", x, 4, "(N, C, H, W)");
  N = x.d[0], C = x.d[1], H = x.d[2], W = x.d[3];
  if (H * W < 1) refuse("global_avg_pool2d: input ", x, " has no pixels");
}
Shape GlobalPool::x_shape() const { return shape_of(N, C, H, W); }
Shape GlobalPool::y_shape() const { return shape_of(N, C, 1, 1); }

// --- batch normalisation

BatchNorm::BatchNorm(Shape x_, double eps_, double momentum_, Activation activation_, bool training_, bool residual_)
    : eps(eps_), momentum(momentum_), activation(activation_), training(training_), residual(residual_), x(x_) {
  if (x.rank != 2 && x.rank != 4) refuse("batch_norm expects (N, C) or (N, C, H, W), got ", x);
  if (!(eps >= 0)) refuse("batch_norm: eps must not be negative, got ", eps);
  C = x.d[1];
  rows = x.rank == 2 ? x.d[0] : x.d[0] * x.d[2] * x.d[3];
  if (training && rows == 1)
    refuse("batch_norm: training needs more than 1 value per channel, got input ", x, "; use a larger batch or eval()");
}
Shape BatchNorm::x_shape() const { return x; }
Shape BatchNorm::c_shape() const { return shape_of(C); }
Shape BatchNorm::residual_shape() const { return residual ? x : shape_of(0); }

// --- elementwise

Elements::Elements(Shape s_) : n(count(s_)), s(s_) {}
Shape Elements::shape() const { return s; }

Power::Power(Shape s_, double e) : n(count(s_)), exponent(e), s(s_) {}
Shape Power::shape() const { return s; }

Dropout::Dropout(Shape s_, double p, int64_t draw_, int64_t offset_) : n(count(s_)), draw(draw_), offset(offset_), s(s_) {
  if (!(p >= 0 && p <= 1)) refuse("dropout: p must lie in [0, 1], got ", p);
  scale = p < 1 ? 1 / (1 - p) : 0;
  threshold = uint64_t(std::llround(p * 4294967296.0));
}
Shape Dropout::shape() const { return s; }
Shape Dropout::state_shape() const { return shape_of(2); }

Binary::Binary(Shape a_, Shape b_) : a(a_), b(b_) {
  y.rank = a.rank > b.rank ? a.rank : b.rank;
  Shape as = strides_of(a), bs = strides_of(b), a_full, b_full;
  for (int i = 0; i < y.rank; i++) {  // align to the right; a size of 1 repeats
    const int ia = i - (y.rank - a.rank), ib = i - (y.rank - b.rank);
    const int64_t na = ia < 0 ? 1 : a.d[ia], nb = ib < 0 ? 1 : b.d[ib];
    if (na != nb && na != 1 && nb != 1)
      refuse("shapes ", a, " and ", b, " do not broadcast: sizes ", na, " and ", nb, " in dimension ", i - y.rank);
    y.d[i] = na == 1 ? nb : na;
    a_full.d[i] = na == 1 ? 0 : as.d[ia];
    b_full.d[i] = nb == 1 ? 0 : bs.d[ib];
  }
  const int nhwc[4] = {0, 2, 3, 1};
  rank = 0;
  for (int i = 0; i < y.rank; i++) {
    const int d = y.rank == 4 ? nhwc[i] : i;
    const int64_t n = y.d[d], sa = a_full.d[d], sb = b_full.d[d];
    if (n == 1) continue;
    if (rank && a_stride[rank - 1] == sa * n && b_stride[rank - 1] == sb * n) {  // runs on from the dimension outside
      dims[rank - 1] *= n, a_stride[rank - 1] = sa, b_stride[rank - 1] = sb;
      continue;
    }
    dims[rank] = n, a_stride[rank] = sa, b_stride[rank] = sb, rank++;
  }
  if (!rank) dims[0] = 1, a_stride[0] = b_stride[0] = 0, rank = 1;
}
Shape Binary::a_shape() const { return a; }
Shape Binary::b_shape() const { return b; }
Shape Binary::y_shape() const { return y; }

// --- reductions and strided copies

Reduce::Reduce(Shape x_, uint32_t mask, bool keepdims) : x(x_) {
  y.rank = 0;
  for (int i = 0; i < x.rank; i++) {
    if (!(mask >> i & 1))
      y.d[y.rank++] = x.d[i];
    else if (keepdims)
      y.d[y.rank++] = 1;
  }
  const Shape out = strides_of(y);
  Shape y_strides;  // of y, per dimension of x
  for (int i = 0, j = 0; i < x.rank; i++) {
    const bool gone = mask >> i & 1;
    y_strides.d[i] = gone ? 0 : out.d[j];
    if (!gone || keepdims) j++;
  }
  const Shape x_strides = strides_of(x);
  const int nhwc[4] = {0, 2, 3, 1};
  kept_rank = reduced_rank = 0;
  kept_count = reduced_count = 1;
  for (int i = 0; i < x.rank; i++) {
    const int d = x.rank == 4 ? nhwc[i] : i;
    const int64_t n = x.d[d], s = x_strides.d[d];
    const bool gone = mask >> d & 1;
    (gone ? reduced_count : kept_count) *= n;
    if (n == 1) continue;
    if (gone) {
      if (reduced_rank && reduced_stride[reduced_rank - 1] == s * n) {
        reduced[reduced_rank - 1] *= n, reduced_stride[reduced_rank - 1] = s;
      } else {
        reduced[reduced_rank] = n, reduced_stride[reduced_rank] = s, reduced_rank++;
      }
    } else if (kept_rank && kept_stride[kept_rank - 1] == s * n && kept_out_stride[kept_rank - 1] == y_strides.d[d] * n) {
      kept[kept_rank - 1] *= n, kept_stride[kept_rank - 1] = s, kept_out_stride[kept_rank - 1] = y_strides.d[d];
    } else {
      kept[kept_rank] = n, kept_stride[kept_rank] = s, kept_out_stride[kept_rank] = y_strides.d[d], kept_rank++;
    }
  }
}
Shape Reduce::x_shape() const { return x; }
Shape Reduce::y_shape() const { return y; }

Strided::Strided(Shape x_, Shape y_, Shape dims_, Shape stride_, int64_t offset_) : rank(dims_.rank), offset(offset_), x(x_), y(y_) {
  if (dims_.rank != stride_.rank || count(dims_) != count(y)) refuse("copy: dims ", dims_, " and strides ", stride_, " do not make ", y);
  int64_t lowest = offset, highest = offset;
  for (int i = 0; i < rank; i++) {
    dims[i] = dims_.d[i], stride[i] = stride_.d[i];
    (stride[i] < 0 ? lowest : highest) += (dims[i] - 1) * stride[i];
  }
  if (count(y) && (lowest < 0 || highest >= count(x))) refuse("copy: the view reaches from ", lowest, " to ", highest, ", outside of ", x);
}
Shape Strided::x_shape() const { return x; }
Shape Strided::y_shape() const { return y; }

// --- loss

CrossEntropy::CrossEntropy(Shape logits, double smoothing_, int64_t ignore, int reduction_)
    : ignore_index(ignore), smoothing(smoothing_), reduction(Reduction(reduction_)) {
  if (logits.rank != 2) refuse("cross_entropy expects logits of shape (N, C), got ", logits);
  if (!(smoothing >= 0 && smoothing <= 1)) refuse("cross_entropy: label_smoothing must lie in [0, 1], got ", smoothing);
  N = logits.d[0], C = logits.d[1];
  if (C < 1) refuse("cross_entropy: logits ", logits, " have no classes");
}
Shape CrossEntropy::x_shape() const { return shape_of(N, C); }
Shape CrossEntropy::n_shape() const { return shape_of(N); }
Shape CrossEntropy::c_shape() const { return shape_of(C); }
Shape CrossEntropy::loss_shape() const { return reduction == none ? shape_of(N) : shape_of(); }
Shape CrossEntropy::scalar_shape() const { return shape_of(); }

// --- optimizers

SGD::SGD(int64_t n, int64_t g) : count(n), groups(g) {}
Shape SGD::sizes() const { return shape_of(count); }
Shape SGD::group_shape() const { return shape_of(count); }
Shape SGD::rates_shape() const { return shape_of(groups, 4); }

Adam::Adam(int64_t n, int64_t g) : count(n), groups(g) {}
Shape Adam::sizes() const { return shape_of(count); }
Shape Adam::group_shape() const { return shape_of(count); }
Shape Adam::rates_shape() const { return shape_of(groups, 6); }
Shape Adam::scalar_shape() const { return shape_of(); }

// --- data and randomness

Gather::Gather(Shape source_, int64_t batch_) : batch(batch_), source(source_) {
  if (source.rank != 2 && source.rank != 4) refuse("gather_normalize expects a source of shape (n, C) or (n, C, H, W), got ", source);
  n = source.d[0], C = source.d[1];
  pixels = source.rank == 2 ? 1 : source.d[2] * source.d[3];
}
Shape Gather::source_shape() const { return source; }
Shape Gather::index_shape() const { return shape_of(batch); }
Shape Gather::c_shape() const { return shape_of(C); }
Shape Gather::y_shape() const {
  Shape y = source;
  y.d[0] = batch;
  return y;
}

Random::Random(int64_t n_, int64_t draw_, int64_t purpose_) : n(n_), draw(draw_), purpose(purpose_) {
  if (n < 0) refuse("random_bits: n must not be negative, got ", n);
}
Shape Random::state_shape() const { return shape_of(2); }
Shape Random::shape() const { return shape_of(n); }

}  // namespace fastnn
