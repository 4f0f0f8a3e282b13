// Winograd for first layers, 7 x 7 windows of stride 2 over three channels: what both directions share. The 2 x 2 pixels that a stride
// passes, 3 channels each, are one pixel of 12 channels, of which a window has 4 x 4, one row and column of them only half:
//
//   channel 6 (row % 2) + 3 (column % 2) + color,      tap (r, s) of it is tap (2 r + row % 2, 2 s + column % 2) of the window
//
// F(4 x 4, 4 x 4) at the points 0, +-a, +-b, c, infinity then makes 16 outputs by 49 products of 12 channels (507, where taps that are
// not there leave out those at infinity) instead of 2352. With a = 1, b = 2, c = 3/8 a result is off by 1.5e-6 (normwise, against float64;
// the weight gradient 2.5e-6); by 4.2e-6 with 3/4, 3/2, 1/2.
#pragma once
#include "winograd.h"
#include "winograd_strided.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int frequencies = 49, channels = 12;

struct Sevens {  // f: product over the other points q of (p - q)
  static constexpr double a = 1, b = 2, c = 0.375, a2 = a * a, b2 = b * b, c2 = c * c;
  static constexpr double f0 = -a2 * b2 * c, fa = 2 * a2 * (a2 - b2) * (a - c), fm = -2 * a2 * (a2 - b2) * (a + c),
                          fb = 2 * b2 * (b2 - a2) * (b - c), fn = -2 * b2 * (b2 - a2) * (b + c), fc = c * (c2 - a2) * (c2 - b2);
  struct Input {
    static constexpr int in = 7, out = 7;
    static INLINE void apply(const vec (&d)[7], vec (&v)[7]) {
      vec e[6];  // without c's factor x - c
      UNROLL for (int i = 0; i < 6; i++) e[i] = scaled(real(-c), d[i], d[i + 1]);
      v[0] = scaled(real(a2 * b2), e[0], scaled(real(-a2 - b2), e[2], e[4]));
      const vec even_a = scaled(real(-b2), e[2], e[4]), odd_a = scaled(real(-b2), e[1], e[3]);
      v[1] = scaled(real(a), odd_a, even_a), v[2] = scaled(real(-a), odd_a, even_a);
      const vec even_b = scaled(real(-a2), e[2], e[4]), odd_b = scaled(real(-a2), e[1], e[3]);
      v[3] = scaled(real(b), odd_b, even_b), v[4] = scaled(real(-b), odd_b, even_b);
      v[5] = scaled(real(a2 * b2), d[1], scaled(real(-a2 - b2), d[3], d[5]));
      v[6] = scaled(real(a2 * b2), e[1], scaled(real(-a2 - b2), e[3], e[5]));
    }
  };
  struct Filter {
    static constexpr int in = 4, out = 7;
    static INLINE void apply(const vec (&w)[4], vec (&u)[7]) {
      const vec even_a = scaled(real(a2), w[2], w[0]), odd_a = scaled(real(a), scaled(real(a2), w[3], w[1]));
      const vec even_b = scaled(real(b2), w[2], w[0]), odd_b = scaled(real(b), scaled(real(b2), w[3], w[1]));
      const vec even_c = scaled(real(c2), w[2], w[0]), odd_c = scaled(real(c2), w[3], w[1]);
      u[0] = scaled(real(1 / f0), w[0]);
      u[1] = scaled(real(1 / fa), even_a + odd_a), u[2] = scaled(real(1 / fm), even_a - odd_a);
      u[3] = scaled(real(1 / fb), even_b + odd_b), u[4] = scaled(real(1 / fn), even_b - odd_b);
      u[5] = scaled(real(1 / fc), scaled(real(c), odd_c, even_c));
      u[6] = w[3];
    }
  };
  struct Output {
    static constexpr int in = 7, out = 4;
    static INLINE void apply(const vec (&m)[7], vec (&y)[4]) {
      const vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
      y[0] = (m[0] + m[5]) + (even_a + even_b);
      y[1] = scaled(real(a), odd_a, scaled(real(b), odd_b, scaled(real(c), m[5])));
      y[2] = scaled(real(a2), even_a, scaled(real(b2), even_b, scaled(real(c2), m[5])));
      y[3] = scaled(real(a * a2), odd_a, scaled(real(b * b2), odd_b, scaled(real(c * c2), m[5], m[6])));
    }
  };
  struct OutputGradient {
    static constexpr int in = 4, out = 7;
    static INLINE void apply(const vec (&dy)[4], vec (&e)[7]) {
      const vec even_a = scaled(real(a2), dy[2], dy[0]), odd_a = scaled(real(a2), dy[3], dy[1]);
      const vec even_b = scaled(real(b2), dy[2], dy[0]), odd_b = scaled(real(b2), dy[3], dy[1]);
      e[0] = dy[0];
      e[1] = scaled(real(a), odd_a, even_a), e[2] = scaled(real(-a), odd_a, even_a);
      e[3] = scaled(real(b), odd_b, even_b), e[4] = scaled(real(-b), odd_b, even_b);
      e[5] = scaled(real(c), scaled(real(c2), dy[3], dy[1]), scaled(real(c2), dy[2], dy[0]));
      e[6] = dy[3];
    }
  };
  struct FilterGradient {
    static constexpr int in = 7, out = 4;
    static INLINE void apply(const vec (&s)[7], vec (&dw)[4]) {
      const vec plus_a = scaled(real(1 / fa), s[1]), plus_b = scaled(real(1 / fb), s[3]), at_c = scaled(real(1 / fc), s[5]);
      const vec even_a = scaled(real(1 / fm), s[2], plus_a), odd_a = scaled(real(-1 / fm), s[2], plus_a);
      const vec even_b = scaled(real(1 / fn), s[4], plus_b), odd_b = scaled(real(-1 / fn), s[4], plus_b);
      dw[0] = scaled(real(1 / f0), s[0], even_a) + (even_b + at_c);
      dw[1] = scaled(real(a), odd_a, scaled(real(b), odd_b, scaled(real(c), at_c)));
      dw[2] = scaled(real(a2), even_a, scaled(real(b2), even_b, scaled(real(c2), at_c)));
      dw[3] = scaled(real(a * a2), odd_a, scaled(real(b * b2), odd_b, scaled(real(c * c2), at_c, s[6])));
    }
  };
};

constexpr int width = 2, panel = width * N_LANES;  // output channels that go through the caches together
constexpr int at_once = tile_rows(width, 1) < 7 ? tile_rows(width, 1) : 7;
constexpr int most_tiles = 2 * at_once;  // of a block: twice as many as the registers take
constexpr int pitch = (channels + N_LANES - 1) / N_LANES * N_LANES;
// From one frequency to the next, an odd number of vectors
constexpr int pixel_step = (most_tiles * pitch / N_LANES | 1) * N_LANES, product_step = (most_tiles * width | 1) * N_LANES;

constexpr int64_t weight_step = channels * panel;  // weights, or sums, of a frequency: [channel][panel]

// Blocks are pieces of rows of tiles.
struct Blocks {
  Map x;
  TileGrid grid;
  int64_t pieces;  // of a row of tiles
  explicit Blocks(const Conv2d& v)
      : x{v.H, v.W, 3, -v.pad_top, -v.pad_left}, grid(v.N, v.P, v.Q, 4), pieces(divide_up(grid.across, most_tiles)) {}
  INLINE int64_t count() const { return grid.images() * grid.down * pieces; }
  INLINE int64_t strip_row() const { return (4 * most_tiles + 3) * pitch; }
  INLINE int64_t strip_size() const { return 7 * strip_row(); }
  // What a worker needs: strip, pixels, and products or dy
  INLINE int64_t worker_size() const { return divide_up(strip_size() + frequencies * (pixel_step + product_step), 16) * 16; }
  struct Block {
    int64_t image, row, column, tiles;  // of its first output
  };
  INLINE Block block(int64_t i) const {
    const int64_t first = i % pieces * most_tiles, end = smaller(grid.across, first + most_tiles);
    return {i / pieces / grid.down, i / pieces % grid.down * 4, first * 4, end - first};
  }
};

INLINE void copy_six(const storage* from, real* to) {
  if constexpr (narrow)
    for_vectors(0, 6, [&](int64_t k, auto load_some, auto store_some) { store_some(to + k, load_some(from + k)); });
  else
    __builtin_memcpy(to, from, 6 * sizeof(real));
}

// The pixels of a block, of 12 channels each: [row][column][pitch]
inline void copy_strip(const Blocks& s, const storage* x, const Blocks::Block& block, real* strip) {
  const int64_t columns = 4 * block.tiles + 3, left = 2 * block.column + s.x.left, row_size = s.strip_row();
  const int64_t begin = smaller(columns, left < 0 ? divide_up(-left, 2) : 0), end = larger(begin, smaller(columns, (s.x.W - left) / 2));
  for (int64_t i = 0; i < 14; i++) {
    const int64_t h = 2 * block.row + s.x.top + i;
    real* const to = strip + i / 2 * row_size + i % 2 * 6;
    const bool inside = h >= 0 && h < s.x.H;
    const storage* const from = x + ((block.image * s.x.H + h) * s.x.W + left) * 3;
    const auto border = [&](int64_t j) {
      for (int64_t q = 0; q < 2; q++) {
        const bool there = inside && left + 2 * j + q >= 0 && left + 2 * j + q < s.x.W;
        for (int64_t k = 3 * q; k < 3 * q + 3; k++) to[j * pitch + k] = there ? real(from[6 * j + k]) : real(0);
      }
    };
    for (int64_t j = 0; j < (inside ? begin : columns); j++) border(j);
    if (!inside) continue;
    for (int64_t j = begin; j < end; j++) copy_six(from + 6 * j, to + j * pitch);
    for (int64_t j = end; j < columns; j++) border(j);
  }
}

// Tile t's frequency f goes to pixels + f pixel_step + t pitch.
inline void transform_strip(const Blocks& s, const real* strip, int64_t tiles, real* pixels) {
  const int64_t row = s.strip_row();
  for (int64_t t = 0; t < tiles; t++)
    for (int v = 0; v < pitch; v += N_LANES)
      transform_tile<Sevens::Input>([&](int i, int j) { return load(strip + i * row + (4 * t + j) * pitch + v); },
                                    [&](int i, int j, vec d) { store(pixels + (i * 7 + j) * pixel_step + t * pitch + v, d); });
}

// The pixels of block i in a map of outputs, all channels of them, asked for at each frequency
struct RowsAhead {
  Ahead row[4];
  RowsAhead(const Conv2d& v, const Blocks& s, const storage* map, int64_t i) {
    if (i >= s.count()) return;
    const Blocks::Block block = s.block(i);
    const storage* const corner = map + ((block.image * v.P + block.row) * v.Q + block.column) * v.K;
    for (int64_t r = 0; r < smaller(4, v.P - block.row); r++)
      row[r] = Ahead(corner + r * v.Q * v.K, smaller(4 * block.tiles, v.Q - block.column) * v.K, frequencies);
  }
  INLINE void step() {
    for (Ahead& part : row) part.step();
  }
};

// This block's share of the pixels that no row of tiles before the next one reads
INLINE Ahead pixels_ahead(const Blocks& s, const storage* x, int64_t i) {
  if (i + s.pieces >= s.count()) return {};
  const Blocks::Block block = s.block(i + s.pieces);
  const int64_t top = 2 * block.row + s.x.top, first = larger(0, smaller(s.x.H, block.row ? top + 6 : 0));
  const int64_t size = larger(0, smaller(s.x.H, top + 14) - first) * s.x.W * 3, piece = i % s.pieces;
  const storage* const begin = x + (block.image * s.x.H + first) * s.x.W * 3;
  return Ahead(begin + size * piece / s.pieces, size / s.pieces, frequencies);
}

// body(Phases<rows, columns>): the taps that a frequency has
template <int R, int S>
struct Phases {
  static constexpr int rows = R, columns = S;
};
template <class F>
INLINE void with_phases(int frequency, const F& body) {
  if (frequency / 7 < 6) return frequency % 7 < 6 ? body(Phases<2, 2>{}) : body(Phases<2, 1>{});
  return frequency % 7 < 6 ? body(Phases<1, 2>{}) : body(Phases<1, 1>{});
}

inline bool first_pays(const Conv2d& v) {
  const bool fits = v.R == 7 && v.S == 7 && v.stride_h == 2 && v.stride_w == 2 && v.dilation_h == 1 && v.dilation_w == 1 && v.G == 1 &&
                    v.C == 3 && v.K % panel == 0;
  if (!fits) return false;
  const Blocks s(v);
  const int64_t tiles = v.N * s.grid.down * divide_up(s.grid.across, at_once) * at_once;
  return s.grid.count >= 24 && 16 * double(tiles) <= 2 * double(v.N * v.P * v.Q);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
