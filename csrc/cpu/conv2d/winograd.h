// Winograd's minimal filtering F(M x M, 3 x 3) (Lavin, Gray, "Fast algorithms for convolutional neural networks", arXiv 1509.09308):
// M x M outputs from T x T inputs, T = M + 2, by T^2 products instead of 9 M^2.
//
//   forward           Y  = A' [(G w G') . (B' d B)] A
//   backward to w     dw = G' [(A dY A') . (B' d B)] G
//
// A row of A', G, B belongs to a point at which polynomials are evaluated. M = 2: 0, 1, -1, infinity. M = 4: 0, +-3/4, +-3/2, infinity.
// With the usual +-1, +-2 the result is less exact: normwise 1.9e-6 instead of 0.9e-6 at 64 channels, 3.3e-6 instead of 1.6e-6 at 256,
// where a direct sum in float32 has 0.4e-6 and 0.8e-6.
//
// The last output alone needs the point infinity. So a tile of M - 1 rows or columns goes through the same transforms and leaves out the
// products with it, and so many smaller tiles as fill the map exactly take the place of M x M tiles over its border: 14 = 4 + 4 + 3 + 3.
#pragma once
#include "../gemm.h"
#include "../scratch.h"
#include "ahead.h"
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE vec scaled(real k, vec a) { return set(k) * a; }
INLINE vec scaled(real k, vec a, vec b) { return fma(set(k), a, b); }  // k a + b

template <int M>
struct Winograd;

template <>
struct Winograd<2> {
  static constexpr int T = 4;
  struct Input {  // B' d
    static constexpr int in = 4, out = 4;
    static INLINE void apply(const vec (&d)[4], vec (&v)[4]) {
      v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
    }
  };
  struct Filter {  // G w
    static constexpr int in = 3, out = 4;
    static INLINE void apply(const vec (&w)[3], vec (&u)[4]) {
      const vec even = w[0] + w[2];
      u[0] = w[0], u[1] = scaled(real(0.5), even + w[1]), u[2] = scaled(real(0.5), even - w[1]), u[3] = w[2];
    }
  };
  struct Output {  // A' m
    static constexpr int in = 4, out = 2;
    static INLINE void apply(const vec (&m)[4], vec (&y)[2]) { y[0] = m[0] + (m[1] + m[2]), y[1] = m[1] - m[2] - m[3]; }
  };
  struct OutputGradient {  // A dy
    static constexpr int in = 2, out = 4;
    static INLINE void apply(const vec (&dy)[2], vec (&e)[4]) {
      e[0] = dy[0], e[1] = dy[0] + dy[1], e[2] = dy[0] - dy[1], e[3] = zero() - dy[1];
    }
  };
  struct FilterGradient {  // G' s
    static constexpr int in = 4, out = 3;
    static INLINE void apply(const vec (&s)[4], vec (&dw)[3]) {
      const vec even = scaled(real(0.5), s[1] + s[2]);
      dw[0] = s[0] + even, dw[1] = scaled(real(0.5), s[1] - s[2]), dw[2] = even + s[3];
    }
  };
};

template <>
struct Winograd<4> {
  static constexpr int T = 6;
  static constexpr real a = real(0.75), b = real(1.5), a2 = a * a, b2 = b * b;  // the points; every constant but 1 / f is exact in float32
  // G's rows are divided by f = product over the other points q of (p - q)
  static constexpr real f0 = real(64.0 / 81), fa = real(-128.0 / 243), fb = real(32.0 / 243);  // 1 / f at 0, +-a, +-b

  struct Input {
    static constexpr int in = 6, out = 6;
    // Rows that share what they are made of: 0 of 0 and infinity, 1 of +-a, 2 of +-b
    static constexpr int rows[3][2] = {{0, 5}, {1, 2}, {3, 4}};
    template <int pair>
    static INLINE void apply_pair(const vec (&d)[6], vec& first, vec& second) {
      if constexpr (pair == 0) {
        first = scaled(a2 * b2, d[0], scaled(-(a2 + b2), d[2], d[4]));
        second = scaled(a2 * b2, d[1], scaled(-(a2 + b2), d[3], d[5]));
      } else {
        constexpr real own = pair == 1 ? a : b, other = pair == 1 ? b2 : a2;
        const vec even = scaled(-other, d[2], d[4]), odd = scaled(-other, d[1], d[3]);
        first = scaled(own, odd, even), second = scaled(-own, odd, even);
      }
    }
    static INLINE void apply(const vec (&d)[6], vec (&v)[6]) {
      apply_pair<0>(d, v[0], v[5]), apply_pair<1>(d, v[1], v[2]), apply_pair<2>(d, v[3], v[4]);
    }
  };
  struct Filter {
    static constexpr int in = 3, out = 6;
    static INLINE void apply(const vec (&w)[3], vec (&u)[6]) {
      const vec even_a = scaled(fa, scaled(a2, w[2], w[0])), even_b = scaled(fb, scaled(b2, w[2], w[0]));
      u[0] = scaled(f0, w[0]);
      u[1] = scaled(a * fa, w[1], even_a), u[2] = scaled(-a * fa, w[1], even_a);
      u[3] = scaled(b * fb, w[1], even_b), u[4] = scaled(-b * fb, w[1], even_b);
      u[5] = w[2];
    }
  };
  struct Output {
    static constexpr int in = 6, out = 4;
    static INLINE void apply(const vec (&m)[6], vec (&y)[4]) {
      const vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
      y[0] = m[0] + (even_a + even_b);
      y[1] = scaled(a, odd_a, scaled(b, odd_b));
      y[2] = scaled(a2, even_a, scaled(b2, even_b));
      y[3] = m[5] + scaled(a * a2, odd_a, scaled(b * b2, odd_b));
    }
  };
  struct OutputGradient {
    static constexpr int in = 4, out = 6;
    static INLINE void apply(const vec (&dy)[4], vec (&e)[6]) {
      const vec even_a = scaled(a2, dy[2], dy[0]), odd_a = scaled(a2, dy[3], dy[1]);
      const vec even_b = scaled(b2, dy[2], dy[0]), odd_b = scaled(b2, dy[3], dy[1]);
      e[0] = dy[0];
      e[1] = scaled(a, odd_a, even_a), e[2] = scaled(-a, odd_a, even_a);
      e[3] = scaled(b, odd_b, even_b), e[4] = scaled(-b, odd_b, even_b);
      e[5] = dy[3];
    }
  };
  struct FilterGradient {
    static constexpr int in = 6, out = 3;
    static INLINE void apply(const vec (&s)[6], vec (&dw)[3]) {
      const vec even_a = scaled(fa, s[1] + s[2]), odd_a = scaled(fa, s[1] - s[2]);
      const vec even_b = scaled(fb, s[3] + s[4]), odd_b = scaled(fb, s[3] - s[4]);
      dw[0] = scaled(f0, s[0], even_a + even_b);
      dw[1] = scaled(a, odd_a, scaled(b, odd_b));
      dw[2] = s[5] + scaled(a2, even_a, scaled(b2, even_b));
    }
  };
};

// F tile F': first along the columns, then along the rows. load(i, j) gives an element, store(i, j, v) takes one.
template <class F>
struct TileTransform {
  template <class Load, class Store>
  static INLINE void run(Load load, Store store) {
    vec half[F::out][F::in];
    UNROLL for (int j = 0; j < F::in; j++) {
      vec column[F::in], result[F::out];
      UNROLL for (int i = 0; i < F::in; i++) column[i] = load(i, j);
      F::apply(column, result);
      UNROLL for (int i = 0; i < F::out; i++) half[i][j] = result[i];
    }
    UNROLL for (int i = 0; i < F::out; i++) store_row(half[i], i, store);
  }
  template <class Store>
  static INLINE void store_row(const vec (&half)[F::in], int i, Store store) {
    vec result[F::out];
    F::apply(half, result);
    UNROLL for (int j = 0; j < F::out; j++) store(i, j, result[j]);
  }
};

// 6 x 6 halves are more than there are registers. Two rows of them at a time are few enough, and loads cost less than what is stored
// only to be loaded again.
template <>
struct TileTransform<Winograd<4>::Input> {
  using F = Winograd<4>::Input;
  template <class Load, class Store>
  static INLINE void run(Load load, Store store) {
    run_pair<0>(load, store), run_pair<1>(load, store), run_pair<2>(load, store);
  }
  template <int pair, class Load, class Store>
  static INLINE void run_pair(Load load, Store store) {
    vec first[6], second[6];
    UNROLL for (int j = 0; j < 6; j++) {
      vec column[6];
      UNROLL for (int i = 0; i < 6; i++) column[i] = load(i, j);
      F::apply_pair<pair>(column, first[j], second[j]);
    }
    vec result[6];
    F::apply(first, result);
    UNROLL for (int j = 0; j < 6; j++) store(F::rows[pair][0], j, result[j]);
    F::apply(second, result);
    UNROLL for (int j = 0; j < 6; j++) store(F::rows[pair][1], j, result[j]);
  }
};

template <class F, class Load, class Store>
INLINE void transform_tile(Load load, Store store) {
  TileTransform<F>::run(load, store);
}

struct Filters {
  const storage* w;
  int64_t out_channels, in_channels;  // of the product: backward to the input they are w's input and output channels
  bool flipped;                       // backward to the input
};

// The weights between N_LANES output and N_LANES input channels, transformed and laid out as [frequency][input channel][output channel]:
// input channels lie `pitch` apart, frequencies `frequency_step`. `to` is where frequency 0 of the first of each goes.
template <int M>
void transform_weights(const Filters& filters, int64_t out, int64_t in, real* to, int64_t pitch, int64_t frequency_step) {
  constexpr int T = Winograd<M>::T;
  const bool flipped = filters.flipped;
  const int64_t row = flipped ? in : out, column = flipped ? out : in;
  const int64_t all_rows = flipped ? filters.in_channels : filters.out_channels;
  const int64_t all_columns = flipped ? filters.out_channels : filters.in_channels;
  const int64_t rows = smaller(N_LANES, all_rows - row), columns = smaller(N_LANES, all_columns - column);
  const auto transform = [&](int64_t c, auto load) {  // input channel in + c, of which load(tap) is a vector over output channels
    transform_tile<typename Winograd<M>::Filter>([&](int i, int j) { return load(3 * i + j); },
                                                 [&](int i, int j, vec v) { store(to + (i * T + j) * frequency_step + c * pitch, v); });
  };
  const storage* const first = filters.w + row * 9 * all_columns + column;
  if (flipped) {
    for (int64_t c = 0; c < rows; c++)
      for_vectors(0, columns, [&](int64_t, auto load_some, auto) {
        const storage* const taps = first + c * 9 * all_columns;
        UNROLL for (int tap = 0; tap < 9; tap++) __builtin_prefetch(taps + (N_LANES * 9 + tap) * all_columns);  // of the next rows
        transform(c, [&](int tap) { return load_some(taps + (8 - tap) * all_columns); });
      });
    return;
  }
  real taps[9][N_LANES][N_LANES];
  for (int tap = 0; tap < 9; tap++) {
    vec lines[N_LANES] = {};
    for_vectors(0, columns, [&](int64_t, auto load_some, auto) {
      for (int64_t k = 0; k < rows; k++) {
        const storage* const line = first + (k * 9 + tap) * all_columns;
        __builtin_prefetch(line + N_LANES);  // of the next columns
        lines[k] = load_some(line);
      }
    });
    transpose(lines);
    UNROLL for (int c = 0; c < N_LANES; c++) store(taps[tap][c], lines[c]);
  }
  for (int64_t c = 0; c < columns; c++) transform(c, [&](int tap) { return load(taps[tap][c]); });
}

// A map of `channels` channels, N H x W images; where a tile of it begins.
struct Map {
  int64_t H, W, channels;
  int64_t top, left;  // row and column that tile (0, 0) begins with; negative where there is padding
  INLINE int64_t image() const { return H * W * channels; }
};

// The M x M tiles of maps of P x Q pixels, image by image, row by row.
struct TileGrid {
  int64_t P, Q, down, across, count;
  int M;
  int64_t tall, wide;  // how many rows of tiles have M rows of pixels, and columns of them M columns; those behind have one less
  TileGrid(int64_t N, int64_t P, int64_t Q, int M)
      : P(P), Q(Q), down(divide_up(P, M)), across(divide_up(Q, M)), count(N * down * across), M(M), tall(down), wide(across) {}
  struct Place {
    int64_t image, row, column;  // of its first pixel
    bool tall, wide;
    INLINE int kind() const { return tall ? wide : 3 - wide; }  // tall, tall and wide, wide, neither
  };
  INLINE int64_t images() const { return count / down / across; }
  INLINE Place place(int64_t tile) const {
    const int64_t i = tile / across % down, j = tile % across;
    return {tile / across / down, i * M - larger(0, i - tall), j * M - larger(0, j - wide), i < tall, j < wide};
  }
  INLINE int64_t products() const { return images() * ((M + 1) * down + tall) * ((M + 1) * across + wide); }
};

// As many tiles, some of them smaller, so that they fit the map.
struct FittingGrid : TileGrid {
  FittingGrid(int64_t N, int64_t P, int64_t Q, int M) : TileGrid(N, P, Q, M) {
    tall = larger(0, P - (M - 1) * down), wide = larger(0, Q - (M - 1) * across);
  }
};

// Tiles one after the other
struct Walk {
  const TileGrid& grid;
  TileGrid::Place at;
  INLINE Walk(const TileGrid& grid, int64_t first) : grid(grid), at(grid.place(first)) {}
  INLINE void next() {
    at.column += grid.M - !at.wide;
    if (at.column >= grid.Q) {
      at.column = 0, at.row += grid.M - !at.tall;
      if (at.row >= grid.P) at.row = 0, at.image++;
    }
    at.tall = at.row < grid.tall * grid.M, at.wide = at.column < grid.wide * grid.M;
  }
};

struct Tiles {  // of a grid, in its order
  int64_t first, count;
};

// The same, sorted by kind: those that have a frequency lie side by side.
template <int most>
struct SortedTiles : Tiles {
  struct Range {
    int64_t begin, count;
  };
  TileGrid::Place at[most];
  int64_t end[4];  // of each kind
  SortedTiles(const TileGrid& grid, const Tiles& tiles) : Tiles(tiles) {
    TileGrid::Place place[most];
    int64_t of_kind[4] = {};
    Walk walk(grid, first);
    for (int64_t t = 0; t < count; t++, walk.next()) place[t] = walk.at, of_kind[walk.at.kind()]++;
    for (int kind = 0; kind < 4; kind++) end[kind] = kind ? end[kind - 1] + of_kind[kind - 1] : 0;
    for (int64_t t = 0; t < count; t++) at[end[place[t].kind()]++] = place[t];
  }
  // Those that have row i and column j of T x T frequencies
  INLINE Range with(int i, int j, int T) const {
    const int64_t begin = j == T - 1 ? end[0] : 0;
    return {begin, (i == T - 1 ? end[1] : j == T - 1 ? end[2] : count) - begin};
  }
};

// Where the size x size pixels of a tile lie; those outside, and the last row or column that a smaller tile lacks, are `zeros`.
template <int size>
struct TilePixels {
  const storage* at[size * size];
  INLINE TilePixels(const Map& map, const storage* x, const storage* zeros, const TileGrid::Place& place) {
    const int64_t top = place.row + map.top, left = place.column + map.left;
    const int64_t bottom = smaller(map.H, top + size - !place.tall), right = smaller(map.W, left + size - !place.wide);
    const int64_t corner = ((place.image * map.H + top) * map.W + left) * map.channels;
    const int64_t row = map.W * map.channels;
    if (top >= 0 && left >= 0 && bottom == top + size && right == left + size) {
      const storage* const pixel = x + corner;
      UNROLL for (int i = 0; i < size; i++) UNROLL for (int j = 0; j < size; j++) at[i * size + j] = pixel + i * row + j * map.channels;
      return;
    }
    for (int i = 0; i < size; i++)
      for (int j = 0; j < size; j++) {
        const int64_t h = top + i, w = left + j;
        at[i * size + j] = h >= 0 && h < bottom && w >= 0 && w < right ? x + (corner + i * row + j * map.channels) : zeros;
      }
  }
};

// The channels [first, first + channels) of a tile, transformed: N_LANES of them at `to`, the next a plane_step further. Frequencies lie a
// constant apart, so that an address is a register and a constant. On the way memory is asked for the next tile, of which the first columns
// are here.
template <class F, int64_t frequency_step>
INLINE void transform_pixels(const TilePixels<F::in>& pixels, const TilePixels<F::in>& next, int64_t first, int64_t channels, real* to,
                             int64_t plane_step) {
  constexpr int known = F::in == F::out ? 2 : 0;  // columns that tiles of x share
  for_vectors(first, first + channels, [&](int64_t c, auto load, auto) {
    for (int i = 0; i < F::in; i++)
      for (int j = known; j < F::in; j++) __builtin_prefetch(next.at[i * F::in + j] + c);
    transform_tile<F>([&](int i, int j) { return load(pixels.at[i * F::in + j] + c); },
                      [&](int i, int j, vec v) { store(to + (i * F::out + j) * frequency_step, v); });
    to += plane_step;
  });
}

inline bool winograd_fits(const Conv2d& v) {
  return v.R == 3 && v.S == 3 && v.stride_h == 1 && v.stride_w == 1 && v.dilation_h == 1 && v.dilation_w == 1 && v.G == 1;
}

// Tiles leave at most 0.4 (M = 2: 0.55) of the products, those over the map's border included.
inline bool saves_enough(const Conv2d& v, const TileGrid& grid) {
  return double(grid.products()) <= (grid.M == 4 ? 0.4 : 0.55) * 9.0 * double(v.N * grid.P * grid.Q);
}

// Whether it is faster than a direct convolution, as measured: from two vectors of channels on, and where there are enough tiles to be
// worth the transform of the weights, or to read so many more of them, where these were transformed before.
inline bool winograd_pays(const Conv2d& v, const TileGrid& grid) {
  const bool few = v.weights_stay && may_keep(v) && smaller(v.C, v.K) >= 128 && grid.count >= 9;
  return winograd_fits(v) && smaller(v.C, v.K) >= larger(16, 2 * N_LANES) && (few || grid.count >= 24) && saves_enough(v, grid);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
