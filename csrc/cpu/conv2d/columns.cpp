// Backward to the input where windows are about as large as the map, so that few outputs reach many pixels each: what an output gives to
// its window is a row of the product dy w, (N P Q, K) times (K, R S C), and these are added up. Direct convolution would sweep every pixel
// with every tap, nearly all of them over padding.
#include "../scratch.h"
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_numbers = 1 << 20;  // of the product at a time
constexpr double swept_per_product = 12;   // of direct.h's work per multiply-add of the product: below that, direct.h is faster

int64_t window_size(const Conv2d& v) { return v.R * v.S * v.C; }

bool accepts(const Conv2d& v) {
  const double swept = double(divide_up(v.H, v.stride_h)) * double(divide_up(v.W, v.stride_w)) * double(divide_up(v.C, N_LANES) * N_LANES);
  return sizeof(storage) == sizeof(real) && v.G == 1 && window_size(v) >= 2 * N_LANES &&
         swept >= swept_per_product * double(v.P) * double(v.Q) * double(v.C);
}

int64_t images_at_once(const Conv2d& v) { return larger(1, smaller(v.N, most_numbers / larger(1, v.P * v.Q * window_size(v)))); }

MatMul product(const Conv2d& v, int64_t images) {
  return MatMul({2, {images * v.P * v.Q, v.K}}, {2, {v.K, window_size(v)}}, false, false, Activation::none);
}

struct Parts {
  real* product;
  char* matmul;
  int64_t bytes;
};

Parts lay_out(const Context& context, const Conv2d& v, void* base) {
  const int64_t images = images_at_once(v), rest = v.N % images;
  const int64_t most = larger(matmul_plan(context, product(v, images)).scratch_bytes, matmul_plan(context, product(v, rest)).scratch_bytes);
  Scratch scratch(base);
  Parts parts;
  parts.product = scratch.take<real>(images * v.P * v.Q * window_size(v));
  parts.matmul = scratch.take<char>(most);
  parts.bytes = scratch.bytes();
  return parts;
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return lay_out(context, v, nullptr).bytes; }

INLINE void add(const real* from, int64_t count, real* to) {
  for_vectors(0, count, [=](int64_t i, auto load, auto store) { store(to + i, load(to + i) + load(from + i)); });
}

// image += what output (p, q) gives to its window
void add_window(const Conv2d& v, int64_t p, int64_t q, const real* window, real* image) {
  const int64_t left = q * v.stride_w - v.pad_left;
  const int64_t first = smaller(v.S, left < 0 ? divide_up(-left, v.dilation_w) : 0);
  const int64_t end = larger(first, smaller(v.S, left < v.W ? divide_up(v.W - left, v.dilation_w) : 0));
  for (int64_t r = 0; r < v.R; r++) {
    const int64_t h = p * v.stride_h - v.pad_top + r * v.dilation_h;
    if (h < 0 || h >= v.H) continue;
    const real* from = window + r * v.S * v.C;
    real* to = image + (h * v.W + left) * v.C;
    if (v.dilation_w == 1) {
      add(from + first * v.C, (end - first) * v.C, to + first * v.C);
    } else {
      for (int64_t s = first; s < end; s++) add(from + s * v.C, v.C, to + s * v.dilation_w * v.C);
    }
  }
}

void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Parts parts = lay_out(context, v, scratch);
  const int64_t outputs = v.P * v.Q, pixels = v.H * v.W * v.C;
  for (int64_t n = 0, images = images_at_once(v); n < v.N; n += images) {
    const int64_t count = smaller(images, v.N - n);
    matmul(context, product(v, count), o.in + n * outputs * v.K, o.with, nullptr, reinterpret_cast<storage*>(parts.product), parts.matmul);
    parallel(context, count, [&](int64_t i, int) {
      real* image = reinterpret_cast<real*>(o.out) + (n + i) * pixels;
      __builtin_memset(image, 0, size_t(pixels) * sizeof(real));
      for (int64_t j = 0; j < outputs; j++) add_window(v, j / v.Q, j % v.Q, parts.product + (i * outputs + j) * window_size(v), image);
    });
  }
}

}  // namespace

const ConvAlgorithm columns_backward_input = {"columns", accepts, scratch_bytes, run};

}  // namespace fastnn::FASTNN_TABLE
