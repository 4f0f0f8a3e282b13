// The four convolutions of stride 1 that a 3 x 3 window of stride 2 falls into. Rows 2 p - 1 of the strided side meet the window's first
// and last row, rows 2 p its middle one: with the columns likewise they have 2 x 2, 2 x 1, 1 x 2 and 1 x 1 taps. Each is F(4 x 4, 2 x 2)
// with the same points. A missing tap makes the weights of one point 0, infinity: 25 + 20 + 20 + 16 products take the place of 144.
#pragma once
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int frequencies = 25, phases = 4;

struct Halves {  // F(4, 2) at the points 0, +-a, b, infinity; 1 / f as in Winograd<4>
  static constexpr real a = real(0.75), b = real(1.5), a2 = a * a, b2 = b * b;
  static constexpr real f0 = real(32.0 / 27), fa = -f0, fm = real(-32.0 / 81), fb = -fm;
  struct Input {
    static constexpr int in = 5, out = 5;
    static INLINE void apply(const vec (&d)[5], vec (&v)[5]) {
      const vec e0 = scaled(-b, d[0], d[1]), e1 = scaled(-b, d[1], d[2]), e2 = scaled(-b, d[2], d[3]), e3 = scaled(-b, d[3], d[4]);
      v[0] = scaled(-a2, e0, e2), v[1] = scaled(a, e1, e2), v[2] = scaled(-a, e1, e2);
      v[3] = scaled(-a2, d[1], d[3]), v[4] = scaled(-a2, e1, e3);
    }
  };
  struct Filter {
    static constexpr int in = 2, out = 5;
    static INLINE void apply(const vec (&w)[2], vec (&u)[5]) {
      u[0] = scaled(f0, w[0]), u[1] = scaled(fa, scaled(a, w[1], w[0])), u[2] = scaled(fm, scaled(-a, w[1], w[0]));
      u[3] = scaled(fb, scaled(b, w[1], w[0])), u[4] = w[1];
    }
  };
  struct Output {
    static constexpr int in = 5, out = 4;
    static INLINE void apply(const vec (&m)[5], vec (&y)[4]) {
      const vec even = m[1] + m[2], odd = m[1] - m[2];
      y[0] = m[0] + (even + m[3]), y[1] = scaled(a, odd, scaled(b, m[3]));
      y[2] = scaled(a2, even, scaled(b2, m[3])), y[3] = m[4] + scaled(a * a2, odd, scaled(b * b2, m[3]));
    }
  };
  struct OutputGradient {
    static constexpr int in = 4, out = 5;
    static INLINE void apply(const vec (&dy)[4], vec (&e)[5]) {
      const vec even = scaled(a2, dy[2], dy[0]), odd = scaled(a2, dy[3], dy[1]);
      e[0] = dy[0], e[1] = scaled(a, odd, even), e[2] = scaled(-a, odd, even);
      e[3] = scaled(b, scaled(b2, dy[3], dy[1]), scaled(b2, dy[2], dy[0])), e[4] = dy[3];
    }
  };
  struct FilterGradient {
    static constexpr int in = 5, out = 2;
    static INLINE void apply(const vec (&s)[5], vec (&dw)[2]) {
      const vec plus = scaled(fa, s[1]), minus = scaled(fm, s[2]), last = scaled(fb, s[3]);
      dw[0] = scaled(f0, s[0], (plus + minus) + last), dw[1] = s[4] + scaled(a, plus - minus, scaled(b, last));
    }
  };
};

// One of the four: bit 1 says that it has one row of taps, bit 0 one column; the others have two.
struct Phase {
  int single_row, single_column;
  INLINE constexpr explicit Phase(int phase) : single_row(phase / 2), single_column(phase % 2) {}
  // Whether it has weights at a frequency
  INLINE constexpr bool has(int i, int j) const { return i < 5 - single_row && j < 5 - single_column; }
  INLINE constexpr bool has(int frequency) const { return has(frequency / 5, frequency % 5); }
  // The window's row of a phase's tap; -1: none
  INLINE static constexpr int row(int single, int tap, bool flipped) { return single ? (tap ? -1 : 1) : flipped ? 2 - 2 * tap : 2 * tap; }
};

// The frequencies that the phases have, one after the other
constexpr int strided_planes = 81;
constexpr int first_plane(int phase) {
  int count = 0;
  for (int p = 0; p < phase; p++) count += (5 - Phase(p).single_row) * (5 - Phase(p).single_column);
  return count;
}
constexpr int plane(int phase, int i, int j) { return first_plane(phase) + i * (5 - Phase(phase).single_column) + j; }

// In two of the phases' rows, and columns, all tiles have 4 frequencies.
inline int64_t strided_products(const TileGrid& grid) {
  return grid.images() * (8 * grid.down + grid.tall) * (8 * grid.across + grid.wide);
}

// Where the 5 x 5 pixels of a tile lie, `step` rows and columns apart from (top, left) on; those outside are `zeros`.
struct Pixels {
  const storage* at[25];
  INLINE Pixels(const storage* x, int64_t image, int64_t H, int64_t W, int64_t channels, int64_t top, int64_t left, int64_t step,
                const storage* zeros) {
    const storage* const first = x + ((image * H + top) * W + left) * channels;
    if (top >= 0 && left >= 0 && top + 4 * step < H && left + 4 * step < W) {
      for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) at[i * 5 + j] = first + (i * W + j) * step * channels;
      return;
    }
    for (int i = 0; i < 5; i++)
      for (int j = 0; j < 5; j++) {
        const int64_t h = top + i * step, w = left + j * step;
        const bool inside = uint64_t(h) < uint64_t(H) && uint64_t(w) < uint64_t(W);
        at[i * 5 + j] = inside ? first + (i * W + j) * step * channels : zeros;
      }
  }
};

// 3 x 3 windows of stride 2 over maps with one row and column of padding before them, whole vectors of channels
inline bool strided_fits(const Conv2d& v) {
  return v.R == 3 && v.S == 3 && v.stride_h == 2 && v.stride_w == 2 && v.dilation_h == 1 && v.dilation_w == 1 && v.G == 1 &&
         v.pad_top == 1 && v.pad_left == 1 && v.C % N_LANES == 0 && v.K % N_LANES == 0 && smaller(v.C, v.K) >= 16;
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
