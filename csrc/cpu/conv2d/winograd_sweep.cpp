// Winograd, forward and backward to the input (dy convolved with the flipped taps). Tiles of the input are transformed into planes of
// N_LANES channels for each frequency, each frequency is multiplied with the transformed weights by the register tiles of gemm.h, and the
// products are transformed back. A block of work takes some tiles, and what it makes on the way stays in the L2 cache; all share the
// weights, which were transformed before. Where these are larger than all tiles, it is the other way round: a block takes a panel of the
// weights, transforms it and multiplies all tiles with it.
#include "../own.h"
#include "winograd_ahead.h"
#include "winograd_output.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t wanted_block_bytes = 320 * 1024;  // transformed input and products of a block
constexpr int64_t fewest_tiles = 16, most_tiles = 18, least_blocks = 16;
constexpr int64_t frequency_stride = (most_tiles + 1) * N_LANES;  // constants, no powers of two
constexpr int64_t product_stride = most_tiles * most_vectors * N_LANES + N_LANES;
constexpr int64_t pass_channels = 128;  // so that a pass's weights of one frequency stay in the L1 cache

struct Sweep {
  Map in;
  TileGrid grid;
  int64_t out_channels;
  Activation activation;
  bool flipped;    // taps flipped and w's channels in the roles of each other: backward
  bool by_panels;  // blocks of work are panels, not tiles
  int frequencies, Z, rows;
  int64_t panels, tiles, blocks;  // of Z vectors of output channels; tiles that are transformed together, and how often

  Sweep(const Map& in, const TileGrid& grid, int64_t out_channels, Activation activation, bool flipped)
      : in(in), grid(grid), out_channels(out_channels), activation(activation), flipped(flipped), frequencies((grid.M + 2) * (grid.M + 2)) {
    Z = tile_vectors(out_channels, most_vectors);
    rows = tile_rows(Z, 1);
    panels = divide_up(out_channels, columns());
    by_panels = panels > 1 && grid.count < out_channels;
    const int64_t tile_bytes = frequencies * (planes() * N_LANES + columns()) * int64_t(sizeof(real));
    const int64_t wanted = larger(fewest_tiles, smaller(most_tiles, wanted_block_bytes / tile_bytes));
    tiles = larger(1, smaller(by_panels ? most_tiles : wanted, divide_up(grid.count, by_panels ? 1 : least_blocks)));
    if (!by_panels && tiles > 2 * rows) tiles = smaller(most_tiles, divide_up(tiles, rows) * rows);  // full register tiles
    blocks = divide_up(grid.count, tiles);
  }
  INLINE Tiles tiles_of(int64_t block) const { return {block * tiles, larger(0, smaller(tiles, grid.count - block * tiles))}; }
  INLINE Map out() const { return {grid.P, grid.Q, out_channels, 0, 0}; }
  INLINE int64_t planes() const { return divide_up(in.channels, N_LANES); }
  INLINE int64_t columns() const { return int64_t(Z) * N_LANES; }
  INLINE int64_t weight_stride() const { return in.channels * columns() + N_LANES; }  // of a frequency, no power of two
  INLINE int64_t panel_size() const { return frequencies * weight_stride(); }         // [frequency][input channel][Z vectors]
  INLINE int64_t plane_stride() const { return frequencies * frequency_stride; }
  INLINE int64_t input_size() const { return planes() * plane_stride(); }        // [plane][frequency][tile][N_LANES]
  INLINE int64_t products_size() const { return frequencies * product_stride; }  // [frequency][tile][Z vectors]
};

struct Parts {
  storage* zeros;
  real* weights;  // of all panels, or of a worker's
  real* input;    // of all blocks, or nothing
  Own<real> own;  // of a worker's tiles the input, then the products
  int64_t bytes;
};

// Each panel as it is needed, into the place of the last one
bool worker_packs(const Context& context, const Sweep& s) { return s.by_panels && context.packing == Packing::each_call; }

Parts layout(const Context& context, const Sweep& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.zeros = scratch.take<storage>(s.planes() * N_LANES);
  parts.weights = scratch.take<real>(s.panel_size() * (worker_packs(context, s) ? context.workers : s.panels));
  parts.input = scratch.take<real>(s.by_panels ? s.input_size() * s.blocks : 0);
  parts.own = {context, scratch, (s.by_panels ? 0 : s.input_size()) + s.products_size()};
  parts.bytes = scratch.bytes();
  return parts;
}

// --- weights

// Those of a panel and N_LANES input channels; columns that no output channel has are 0.
template <int M>
void pack_plane(const Sweep& s, const storage* w, int64_t panel, int64_t in, real* weights) {
  for (int64_t column = 0; column < s.columns(); column += N_LANES) {
    const int64_t out = panel * s.columns() + column;
    real* to = weights + in * s.columns() + column;
    if (out < s.out_channels) {
      transform_weights<M>({w, s.out_channels, s.in.channels, s.flipped}, out, in, to, s.columns(), s.weight_stride());
      continue;
    }
    for (int f = 0; f < s.frequencies; f++, to += s.weight_stride())
      for (int64_t k = 0; k < smaller(N_LANES, s.in.channels - in); k++) store(to + k * s.columns(), zero());
  }
}

// --- a block

struct Block : SortedTiles<most_tiles> {
  Tiles all;
  Block(const Sweep& s, int64_t block) : Block(s, s.tiles_of(block)) {}
  Block(const Sweep& s, const Tiles& all) : SortedTiles(s.grid, all.first, all.count), all(all) {}
};

template <int M>
void transform_block(const Sweep& s, const storage* x, const storage* zeros, const Block& tiles, real* input) {
  constexpr int T = Winograd<M>::T;
  TilePixels<T> pixels(s.in, x, zeros, tiles.at[0]);
  for (int64_t t = 0; t < tiles.count; t++) {
    const TilePixels<T> next(s.in, x, zeros, tiles.at[smaller(t + 1, tiles.count - 1)]);
    transform_pixels<typename Winograd<M>::Input, frequency_stride>(pixels, next, 0, s.in.channels, input + t * N_LANES, s.plane_stride());
    pixels = next;
  }
}

// products[tile] = input[tile] times the weights of a panel, for one frequency; rows are cut evenly into register tiles of two sizes.
void multiply_frequency(const Sweep& s, const real* input, const real* weights, int64_t count, const int64_t* row, real* products) {
  if (count == 0) return;
  const int64_t cuts = divide_up(count, s.rows), few = count / cuts, more = count % cuts;
  const Tile<real> few_rows = tile<real>(int(few), s.Z, N_LANES), more_rows = more ? tile<real>(int(few + 1), s.Z, N_LANES) : few_rows;
  const int32_t no_offset = 0;
  for (int64_t c = 0; c < s.in.channels; c += pass_channels) {
    const Reduction over = {&no_offset, 1, smaller(pass_channels, s.in.channels - c), s.plane_stride()};
    const real* a = input + c / N_LANES * s.plane_stride();
    Target<real> to = {products, row, nullptr, int(s.columns()), c > 0, Activation::none};
    for (int64_t i = 0; i < cuts; i++) {
      const int64_t n = few + (i < more);
      (i < more ? more_rows : few_rows)(over, a, weights + c * s.columns(), to);
      a += n * N_LANES, to.y += n * s.columns();
    }
  }
}

// The products that a smaller tile lacks are whatever lies there: what they add to, its last row or column, is not written.
template <int M>
void transform_back(const Sweep& s, const ConvOperands& o, const real* products, int64_t first_channel, const Block& tiles) {
  const int64_t end = smaller(first_channel + s.columns(), s.out_channels), pixel = s.out_channels, row = s.grid.Q * pixel;
  const auto corner = [&](int64_t t) { return ((tiles.at[t].image * s.grid.P + tiles.at[t].row) * s.grid.Q + tiles.at[t].column) * pixel; };
  for (int64_t t = 0; t < tiles.count; t++, products += s.columns()) {
    const TileGrid::Place at = tiles.at[t];
    const int64_t height = smaller(M - !at.tall, s.grid.P - at.row), width = smaller(M - !at.wide, s.grid.Q - at.column);
    const storage* next = o.residual ? o.residual + corner(smaller(t + 1, tiles.count - 1)) : nullptr;
    for (int64_t k = first_channel; k < end; k += N_LANES) {
      if (next)
        for (int i = 0; i < M; i++)
          for (int j = 0; j < M; j++) __builtin_prefetch(next + k + i * row + j * pixel);
      const int64_t to = corner(t) + k;
      write_pixels<typename Winograd<M>::Output, product_stride>(
          products + k - first_channel, {o.out + to, o.residual ? o.residual + to : nullptr, o.bias ? o.bias + k : nullptr, row, pixel,
                                         height, width, int(smaller(N_LANES, end - k)), s.activation});
    }
  }
}

// Some tiles, transformed, times a panel. Meanwhile lines of y are asked for, which are read before they are written, and what comes next.
template <int M>
void multiply_panel(const Sweep& s, const ConvOperands& o, const Block& tiles, const real* input, int64_t panel, const real* weights,
                    real* products, TilesAhead* next) {
  constexpr int T = Winograd<M>::T;
  int64_t row[most_rows];
  for (int64_t q = 0; q < most_rows; q++) row[q] = q * s.columns();
  const int64_t channel = panel * s.columns();
  const Channels channels = {channel, smaller(s.columns(), s.out_channels - channel)};
  TilesAhead own(s.out(), o.out, 0, s.grid, tiles.all, channels, s.frequencies);
  TilesAhead added(s.out(), o.residual, 0, s.grid, tiles.all, channels, s.frequencies);
  for (int f = 0; f < s.frequencies; f++) {
    own.step(), added.step();
    if (next) next->step();
    const auto [first, count] = tiles.with(f / T, f % T, T);
    multiply_frequency(s, input + f * frequency_stride + first * N_LANES, weights + f * s.weight_stride(), count, row,
                       products + f * product_stride + first * s.columns());
  }
  transform_back<M>(s, o, products, panel * s.columns(), tiles);
}

template <int M>
void run_tiles(const Context& context, const Sweep& s, const Parts& parts, const ConvOperands& o) {
  const bool packed = context.packing == Packing::kept;
  parallel(context, packed ? 0 : s.panels * s.planes(), [&](int64_t i, int) {
    const int64_t panel = i / s.planes();
    pack_plane<M>(s, o.with, panel, i % s.planes() * N_LANES, parts.weights + panel * s.panel_size());
  });
  parallel(context, s.blocks, [&](int64_t block, int worker) {
    real* input = parts.own.of(context, worker);
    const Block tiles(s, block);
    transform_block<M>(s, o.in, parts.zeros, tiles, input);
    TilesAhead next(s.in, o.in, 2, s.grid, s.tiles_of(block + 1), {0, s.in.channels}, s.frequencies * s.panels);
    for (int64_t panel = 0; panel < s.panels; panel++)
      multiply_panel<M>(s, o, tiles, input, panel, parts.weights + panel * s.panel_size(), input + s.input_size(), &next);
  });
}

template <int M>
void run_panels(const Context& context, const Sweep& s, const Parts& parts, const ConvOperands& o) {
  parallel(context, s.blocks,
           [&](int64_t block, int) { transform_block<M>(s, o.in, parts.zeros, Block(s, block), parts.input + block * s.input_size()); });
  parallel(context, s.panels, [&](int64_t panel, int worker) {
    real* weights = parts.weights + (worker_packs(context, s) ? worker : panel) * s.panel_size();
    for (int64_t in = 0; in < s.in.channels && context.packing != Packing::kept; in += N_LANES)
      pack_plane<M>(s, o.with, panel, in, weights);
    for (int64_t block = 0; block < s.blocks; block++)
      multiply_panel<M>(s, o, Block(s, block), parts.input + block * s.input_size(), panel, weights, parts.own.of(context, worker),
                        nullptr);
  });
}

template <int M>
void run_sweep(const Context& context, const Sweep& s, const ConvOperands& operands, void* scratch) {
  const Parts parts = layout(context, s, scratch);
  for (int64_t c = 0; c < s.planes() * N_LANES; c += N_LANES) store(parts.zeros + c, zero());
  s.by_panels ? run_panels<M>(context, s, parts, operands) : run_tiles<M>(context, s, parts, operands);
}

// --- as algorithms

template <int M>
Sweep forward_sweep(const Conv2d& v) {
  return Sweep({v.H, v.W, v.C, -v.pad_top, -v.pad_left}, FittingGrid(v.N, v.P, v.Q, M), v.K, v.activation, false);
}
template <int M>
Sweep backward_sweep(const Conv2d& v) {
  return Sweep({v.P, v.Q, v.K, v.pad_top - 2, v.pad_left - 2}, FittingGrid(v.N, v.H, v.W, M), v.C, Activation::none, true);
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
  return winograd_pays(v, FittingGrid(v.N, v.P, v.Q, M));
}
template <int M>
bool accepts_backward(const Conv2d& v) {
  return winograd_pays(v, FittingGrid(v.N, v.H, v.W, M));
}

}  // namespace

#define WINOGRAD(direction, M) \
  {"winograd" #M, accepts_##direction<M>, scratch_bytes<M, direction##_sweep<M>>, run<M, direction##_sweep<M>>, true, true, true}
const ConvAlgorithm winograd4_forward = WINOGRAD(forward, 4), winograd2_forward = WINOGRAD(forward, 2);
const ConvAlgorithm winograd4_backward_input = WINOGRAD(backward, 4), winograd2_backward_input = WINOGRAD(backward, 2);

}  // namespace fastnn::FASTNN_TABLE
