// Maximum over windows, mean over maps. Vectors run over channels, blocks over rows of the output.
#include "pool2d.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// The index of the window's element that lies so far below and right of its first; -1: none does.
INLINE int64_t winner_at(const Pool2d& s, int64_t below, int64_t right) {
  if (below % s.dilation_h || right % s.dilation_w) return -1;
  return below / s.dilation_h * s.S + right / s.dilation_w;
}

// Output rows of one image or several that make a block: about 32k elements of the input.
int64_t rows_of_block(const Pool2d& s) { return larger(1, 32768 / larger(1, s.W * s.C * s.stride_h)); }

template <bool has_index, bool past>
void pool(const Context& context, const Pool2d& s, const T* x, T* y, u8* index) {
  const int64_t rows = s.N * s.P, per_block = rows_of_block(s), row = s.W * s.C;
  const int64_t next_row = row * s.dilation_h, next_column = s.C * s.dilation_w;
  const bool pairs = s.R == 2 && s.S == 2 && s.dilation_h == 1 && s.dilation_w == 1;
  const int64_t asked = asks(s.N * s.H * s.W, s.C) ? s.stride_h : 0, further = larger(s.stride_h, (s.R - 1) * s.dilation_h + 1) * row;
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const int64_t h = np % s.P * s.stride_h - s.pad_h;
      const Span r = inside(h, s.R, s.H, s.dilation_h);
      for (int64_t q = 0; q < s.Q; q++) {
        const int64_t w = q * s.stride_w - s.pad_w, out = (np * s.Q + q) * s.C;
        const T* window = x + (np / s.P * s.H + h) * row + w * s.C;
        u8* const winner = has_index ? index + out : nullptr;
        if (pairs && h >= 0 && w >= 0 && h + 2 <= s.H && w + 2 <= s.W)
          pool_pixel<has_index, past>(window, row, s.C, s.C, {0, 2}, {0, 2}, 2, y + out, winner, s.relu);
        else
          pool_pixel<has_index, past>(window, next_row, next_column, s.C, r, inside(w, s.S, s.W, s.dilation_w), s.S, y + out, winner,
                                      s.relu);
        ask(window + further, asked, row, s.stride_w * s.C);
      }
    }
    finish(past);
  });
}

// Each input pixel gathers from the windows that cover it, in order: no two blocks write the same element, and overlaps add up the same
// way.
template <bool dilated>
void gather(const Context& context, const Pool2d& s, const u8* index, const T* dy, T* dx) {
  const int64_t rows = s.N * s.H, per_block = larger(1, 32768 / larger(1, s.W * s.C));
  const bool past = goes_past(context, dx, rows * s.W * s.C * int64_t(sizeof(T)), s.C);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t nh = block * per_block; nh < smaller((block + 1) * per_block, rows); nh++) {
      const int64_t h = nh % s.H + s.pad_h, first_row = nh / s.H * s.P;
      const int64_t reach_h = dilated ? (s.R - 1) * s.dilation_h + 1 : s.R, reach_w = dilated ? (s.S - 1) * s.dilation_w + 1 : s.S;
      const int64_t p_begin = h < reach_h ? 0 : (h - reach_h) / s.stride_h + 1, p_end = smaller(h / s.stride_h + 1, s.P);
      int64_t q_begin = 0, q_end = 0;  // windows that cover column w
      for (int64_t w = 0; w < s.W; w++) {
        while (q_begin * s.stride_w + reach_w <= w + s.pad_w) q_begin++;
        while (q_end < s.Q && q_end * s.stride_w <= w + s.pad_w) q_end++;
        for_channels(s.C, past, [&](int64_t c, auto load, auto store, auto load_bytes, auto) {
          vec sum = zero();
          for (int64_t p = p_begin; p < p_end; p++) {
            for (int64_t q = q_begin; q < q_end; q++) {
              const int64_t out = ((first_row + p) * s.Q + q) * s.C + c;
              const int64_t below = h - p * s.stride_h, right = w + s.pad_w - q * s.stride_w;
              const int64_t here = dilated ? winner_at(s, below, right) : below * s.S + right;
              sum += select(load_bytes(index + out) == lanes(here), load(dy + out), zero());
            }
          }
          store(dx + (nh * s.W + w) * s.C + c, sum);
        });
      }
    }
    finish(past);
  });
}

// Windows of 2 x 2 side by side: each writes the pixels it covers, which are no other's.
template <bool past>
void scatter_quads(const Context& context, const Pool2d& s, const u8* index, const T* dy, T* dx) {
  const int64_t rows = s.N * s.P, per_block = rows_of_block(s), row = s.W * s.C;
  const int64_t asked = asks(s.N * s.P * s.Q, s.C);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      T* const top = dx + (np / s.P * s.H + np % s.P * 2) * row;
      for (int64_t q = 0; q < s.Q; q++) {
        const int64_t out = (np * s.Q + q) * s.C;
        T* const quad = top + 2 * q * s.C;
        ask(dy + out + s.Q * s.C, asked, 0, s.C);
        for_channels(s.C, past, [=](int64_t c, auto load, auto store, auto load_bytes, auto) {
          const vec d = load(dy + out + c);
          const ivec at = load_bytes(index + out + c);
          UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < 2; j++)
              store(quad + i * row + j * s.C + c, zero() + select(at == lanes(2 * i + j), d, zero()));
        });
      }
      // the column and the row that no window covers
      const int64_t rest = (s.W - 2 * s.Q) * s.C, below = np % s.P == s.P - 1 ? (s.H - 2 * s.P) * row : 0;
      for (int i = 0; i < 2; i++) __builtin_memset(top + i * row + 2 * s.Q * s.C, 0, rest * sizeof(T));
      __builtin_memset(top + 2 * row, 0, below * sizeof(T));
    }
    finish(past);
  });
}

}  // namespace

void maxpool2d_forward(const Context& context, const Pool2d& s, const T* x, T* y, u8* index) {
  leave_caches(context, y, s.N * s.H * s.W, s.C) ? pool<true, true>(context, s, x, y, index) : pool<true, false>(context, s, x, y, index);
}
void maxpool2d_inference(const Context& context, const Pool2d& s, const T* x, T* y) {
  leave_caches(context, y, s.N * s.H * s.W, s.C) ? pool<false, true>(context, s, x, y, nullptr)
                                                 : pool<false, false>(context, s, x, y, nullptr);
}

void maxpool2d_backward(const Context& context, const Pool2d& s, const u8* index, const T* dy, T* dx) {
  const bool quads = s.R == 2 && s.S == 2 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 && s.dilation_w == 1;
  if (quads && s.pad_h == 0 && s.pad_w == 0 && 2 * s.P <= s.H && 2 * s.Q <= s.W) {
    const bool past = goes_past(context, dx, s.N * s.H * s.W * s.C * int64_t(sizeof(T)), s.C);
    return past ? scatter_quads<true>(context, s, index, dy, dx) : scatter_quads<false>(context, s, index, dy, dx);
  }
  const bool dilated = s.dilation_h > 1 || s.dilation_w > 1;
  dilated ? gather<true>(context, s, index, dy, dx) : gather<false>(context, s, index, dy, dx);
}

Plan global_avgpool_forward_plan(const Context&, const GlobalPool&) { return {"whole", 0}; }

void global_avgpool_forward(const Context& context, const GlobalPool& s, const T* x, T* y, void*) {
  const int64_t pixels = s.H * s.W, image = pixels * s.C;
  if (s.C == 0) return;
  const int64_t images = larger(1, 32768 / image);
  const vec share = set(real(1) / real(pixels));
  parallel(context, divide_up(s.N, images), [&](int64_t block, int) {
    for (int64_t n = block * images; n < smaller((block + 1) * images, s.N); n++) {
      const int64_t width = fold_rows(s.C).width;
      constexpr int64_t stretch = 1024;  // channels whose sums wait on the stack: more than are ever folded
      for (int64_t first = 0; first < s.C; first += stretch) {
        real sums[stretch];
        real* const sum[1] = {sums};
        const int64_t channels = smaller(stretch, s.C - first);
        const T* const from = x + n * image + first;
        const auto term = [=](int64_t r, int64_t c, vec(&t)[1], auto load, auto) { t[0] = load(from + r * width + c); };
        width > s.C ? sum_columns(pixels, s.C, sum, term) : sum_rows(pixels, channels, sum, term);
        for_vectors(0, channels, [&](int64_t c, auto load, auto store) { store(y + n * s.C + first + c, load(sums + c) * share); });
      }
    }
  });
}

void global_avgpool_backward(const Context& context, const GlobalPool& s, const T* dy, T* dx) {
  const int64_t pixels = s.H * s.W, image = pixels * s.C;
  if (s.C == 0) return;
  const int64_t images = larger(1, 32768 / image);
  const vec share = set(real(1) / real(pixels));
  parallel(context, divide_up(s.N, images), [&](int64_t block, int) {
    for (int64_t n = block * images; n < smaller((block + 1) * images, s.N); n++) {
      for (int64_t pixel = 0; pixel < pixels; pixel++)
        for_vectors(0, s.C,
                    [=](int64_t c, auto load, auto store) { store(dx + n * image + pixel * s.C + c, load(dy + n * s.C + c) * share); });
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
