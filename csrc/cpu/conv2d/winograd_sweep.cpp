// Winograd, forward and backward to the input (dy convolved with the flipped taps): a block takes some tiles, transforms them into planes
// of N_LANES channels for each frequency, multiplies each frequency with the transformed weights by the register tiles of gemm.h, and
// transforms the products back. What a block makes on the way stays in the L2 cache.
#include "../gemm.h"
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t wanted_block_bytes = 640 * 1024;  // transformed input and products of a block
constexpr int64_t fewest_tiles = 24, most_tiles = 48, least_blocks = 16;
constexpr int64_t pass_channels = 128;  // so that a pass's weights of one frequency stay in the L1 cache

struct Sweep {
  Map in;
  TileGrid grid;
  int64_t out_channels;
  bool flipped;  // taps flipped and w's channels in the roles of each other: backward
  int frequencies, Z, rows;
  int64_t panels, tiles;  // of Z vectors of output channels; tiles of a block
  int64_t plane_stride, frequency_stride, product_stride;

  Sweep(const Map& in, const TileGrid& grid, int64_t out_channels, bool flipped)
      : in(in), grid(grid), out_channels(out_channels), flipped(flipped), frequencies((grid.M + 2) * (grid.M + 2)) {
    Z = tile_vectors(out_channels, most_vectors);
    rows = tile_rows(Z, 1);
    panels = divide_up(out_channels, columns());
    const int64_t tile_bytes = frequencies * (planes() * N_LANES + columns()) * int64_t(sizeof(real));
    const int64_t wanted = larger(fewest_tiles, smaller(most_tiles, wanted_block_bytes / tile_bytes));
    tiles = larger(1, smaller(wanted, divide_up(grid.count, least_blocks)));
    plane_stride = (tiles + 1) * N_LANES;  // no power of two
    frequency_stride = planes() * plane_stride + 2 * N_LANES;
    product_stride = tiles * columns() + N_LANES;
  }
  INLINE int64_t planes() const { return divide_up(in.channels, N_LANES); }
  INLINE int64_t columns() const { return int64_t(Z) * N_LANES; }
  INLINE int64_t panel_size() const { return frequencies * in.channels * columns(); }
};

struct Parts {
  real* weights;  // [panel][frequency][input channel][Z vectors]
  real* zeros;
  real* workers;  // each: transformed input [frequency][plane][tile][N_LANES], products [frequency][tile][Z vectors]
  int64_t input_size, worker_size, bytes;
};

Parts layout(const Context& context, const Sweep& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.weights = scratch.take<real>(s.panels * s.panel_size());
  parts.zeros = scratch.take<real>(s.planes() * N_LANES);
  parts.input_size = s.frequencies * s.frequency_stride;
  parts.worker_size = divide_up(parts.input_size + s.frequencies * s.product_stride, 16) * 16 + 16;
  parts.workers = scratch.take<real>(parts.worker_size * context.workers);
  parts.bytes = scratch.bytes();
  return parts;
}

// --- weights

// N_LANES rows of w (output channels forward, input channels of the product backward) by N_LANES of its innermost channels, transformed and
// laid out for the register tiles: rows of a panel are the product's input channels.
template <int M>
void transform_weights(const Sweep& s, const real* w, int64_t first_row, int64_t rows, int64_t first_column, int64_t columns,
                       real* weights) {
  constexpr int T = Winograd<M>::T;
  const int64_t inner = s.flipped ? s.out_channels : s.in.channels;
  real block[T * T][N_LANES][N_LANES];
  for (int64_t k = 0; k < rows; k++) {
    const real* filter = w + (first_row + k) * 9 * inner + first_column;
    for_vectors(0, columns, [&](int64_t, auto load, auto) {
      transform_tile<typename Winograd<M>::Filter>(
          [&](int i, int j) { return load(filter + (s.flipped ? 8 - (3 * i + j) : 3 * i + j) * inner); },
          [&](int i, int j, vec v) { store(block[i * T + j][k], v); });
    });
  }
  const int64_t out = s.flipped ? first_column : first_row, in = s.flipped ? first_row : first_column, size = s.columns();
  const int64_t count = s.flipped ? rows : columns;  // of input channels
  for (int64_t k = rows; k < N_LANES; k++)
    for (int f = 0; f < T * T; f++) store(block[f][k], zero());
  for (int f = 0; f < T * T; f++) {
    real* to = weights + out / size * s.panel_size() + (f * s.in.channels + in) * size + out % size;
    vec row[N_LANES];
    UNROLL for (int k = 0; k < N_LANES; k++) row[k] = load(block[f][k]);
    if (!s.flipped) transpose(row);
    for (int64_t k = 0; k < count; k++) store(to + k * size, row[k]);
  }
}

// The columns of the last panel that no output channel has.
void clear_missing_columns(const Sweep& s, real* weights) {
  const int64_t there = divide_up(s.out_channels, N_LANES) * N_LANES;
  for (int64_t out = there; out < s.panels * s.columns(); out += N_LANES)
    for (int64_t i = 0; i < s.frequencies * s.in.channels; i++)
      store(weights + out / s.columns() * s.panel_size() + i * s.columns() + out % s.columns(), zero());
}

template <int M>
void pack_weights(const Context& context, const Sweep& s, const real* w, real* weights) {
  const int64_t all_rows = s.flipped ? s.in.channels : s.out_channels, all_columns = s.flipped ? s.out_channels : s.in.channels;
  parallel(context, divide_up(all_rows, N_LANES), [&](int64_t block, int) {
    const int64_t row = block * N_LANES;
    for (int64_t column = 0; column < all_columns; column += N_LANES)
      transform_weights<M>(s, w, row, smaller(N_LANES, all_rows - row), column, smaller(N_LANES, all_columns - column), weights);
  });
  clear_missing_columns(s, weights);
}

// --- a block

template <int M>
void transform_block(const Sweep& s, const real* x, const real* zeros, int64_t first, int64_t count, real* input) {
  constexpr int T = Winograd<M>::T;
  for (int64_t t = 0; t < count; t++) {
    const TilePixels<T> pixels(s.in, x, zeros, s.grid.place(first + t));
    transform_pixels<typename Winograd<M>::Input>(pixels, 0, s.in.channels, input + t * N_LANES, s.plane_stride, s.frequency_stride);
  }
}

// products[tile] = input[tile] times the weights of a panel, for one frequency; rows are cut evenly into register tiles of two sizes.
void multiply_frequency(const Sweep& s, const real* input, const real* weights, int64_t count, const int64_t* row, real* products) {
  const int64_t cuts = divide_up(count, s.rows), few = count / cuts, more = count % cuts;
  const Tile few_rows = tile(int(few), s.Z, N_LANES), more_rows = more ? tile(int(few + 1), s.Z, N_LANES) : few_rows;
  const int32_t no_offset = 0;
  for (int64_t c = 0; c < s.in.channels; c += pass_channels) {
    const Reduction over = {&no_offset, 1, smaller(pass_channels, s.in.channels - c), s.plane_stride};
    const real* a = input + c / N_LANES * s.plane_stride;
    Target to = {products, row, nullptr, int(s.columns()), c > 0};
    for (int64_t i = 0; i < cuts; i++) {
      const int64_t n = few + (i < more);
      (i < more ? more_rows : few_rows)(over, a, weights + c * s.columns(), to);
      a += n * N_LANES, to.y += n * s.columns();
    }
  }
}

template <int M>
void transform_back(const Sweep& s, const real* products, const real* bias, int64_t first_channel, int64_t first, int64_t count, real* y) {
  constexpr int T = Winograd<M>::T;
  const int64_t channels = smaller(s.columns(), s.out_channels - first_channel);
  for (int64_t t = 0; t < count; t++) {
    const TileGrid::Place at = s.grid.place(first + t);
    const int64_t height = s.grid.P - at.row, width = s.grid.Q - at.column;
    real* pixel = y + ((at.image * s.grid.P + at.row) * s.grid.Q + at.column) * s.out_channels + first_channel;
    const real* product = products + t * s.columns();
    for_vectors(0, channels, [&](int64_t k, auto load_some, auto store_some) {
      const vec b = bias ? load_some(bias + first_channel + k) : zero();
      transform_tile<typename Winograd<M>::Output>([&](int i, int j) { return load(product + (i * T + j) * s.product_stride + k); },
                                                   [&](int i, int j, vec v) {
                                                     if (i < height && j < width)
                                                       store_some(pixel + (i * s.grid.Q + j) * s.out_channels + k, v + b);
                                                   });
    });
  }
}

template <int M>
void run_block(const Sweep& s, const Parts& parts, const ConvOperands& o, int64_t block, real* input) {
  const int64_t first = block * s.tiles, count = smaller(s.tiles, s.grid.count - first);
  real* products = input + parts.input_size;
  int64_t row[most_rows];
  for (int64_t q = 0; q < most_rows; q++) row[q] = q * s.columns();
  transform_block<M>(s, o.in, parts.zeros, first, count, input);
  for (int64_t panel = 0; panel < s.panels; panel++) {
    const real* weights = parts.weights + panel * s.panel_size();
    for (int f = 0; f < s.frequencies; f++)
      multiply_frequency(s, input + f * s.frequency_stride, weights + f * s.in.channels * s.columns(), count, row,
                         products + f * s.product_stride);
    transform_back<M>(s, products, o.bias, panel * s.columns(), first, count, o.out);
  }
}

template <int M>
void run_sweep(const Context& context, const Sweep& s, const ConvOperands& operands, void* scratch) {
  const Parts parts = layout(context, s, scratch);
  for (int64_t c = 0; c < s.planes() * N_LANES; c += N_LANES) store(parts.zeros + c, zero());
  pack_weights<M>(context, s, operands.with, parts.weights);
  parallel(context, divide_up(s.grid.count, s.tiles),
           [&](int64_t block, int worker) { run_block<M>(s, parts, operands, block, parts.workers + worker * parts.worker_size); });
}

// --- as algorithms

template <int M>
Sweep forward_sweep(const Conv2d& v) {
  return Sweep({v.H, v.W, v.C, -v.pad_top, -v.pad_left}, TileGrid(v.N, v.P, v.Q, M), v.K, false);
}
template <int M>
Sweep backward_sweep(const Conv2d& v) {
  return Sweep({v.P, v.Q, v.K, v.pad_top - 2, v.pad_left - 2}, TileGrid(v.N, v.H, v.W, M), v.C, true);
}

template <int M, Sweep (*sweep_of)(const Conv2d&)>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, sweep_of(v), nullptr).bytes;
}
template <int M, Sweep (*sweep_of)(const Conv2d&)>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  run_sweep<M>(context, sweep_of(v), operands, scratch);
}

template <int M>
bool accepts_forward(const Conv2d& v) {
  return winograd_pays(v, TileGrid(v.N, v.P, v.Q, M));
}
template <int M>
bool accepts_backward(const Conv2d& v) {
  return winograd_pays(v, TileGrid(v.N, v.H, v.W, M));
}

}  // namespace

#define WINOGRAD(direction, M) \
  {"winograd" #M, accepts_##direction<M>, scratch_bytes<M, direction##_sweep<M>>, run<M, direction##_sweep<M>>, true}
const ConvAlgorithm winograd4_forward = WINOGRAD(forward, 4), winograd2_forward = WINOGRAD(forward, 2);
const ConvAlgorithm winograd4_backward_input = WINOGRAD(backward, 4), winograd2_backward_input = WINOGRAD(backward, 2);

}  // namespace fastnn::FASTNN_TABLE
