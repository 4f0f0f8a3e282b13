// What Winograd's sweeps over a map share. Tiles of the input are transformed into planes of N_LANES channels for each frequency, each
// frequency is multiplied with the transformed weights by the register tiles of gemm.h, and the products are transformed back. A block of
// work takes some tiles, and what it makes on the way stays in the L2 cache; all share the weights, which were transformed before. Where
// these are larger than all tiles, it is the other way round: a block takes a panel of the weights, transforms it and multiplies all tiles
// with it.
//
// A sweep is derived from Blocks and says what is transformed to what:
//   grid, panel_size()                                         its tiles; numbers that a panel's transformed weights take
//   pack(w, panel, in, weights)                                the weights of a panel and N_LANES input channels, transformed
//   transform(tiles, x, zeros, input)                          some tiles, transformed
//   multiply(o, tiles, input, panel, weights, products, next)  times a panel, and back into the output
//   Next(sweep, o, block)                                      memory that is asked for meanwhile
#pragma once
#include "../own.h"
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct TileCounts {  // that are transformed together: at least, at most unless they are few; where blocks are panels
  int64_t fewest, most, of_panel;
};

// Where the parts of a block lie; all strides are constants, so that an address is a register and a constant, and no powers of two.
template <int64_t most_tiles>
struct Blocks {
  static constexpr int64_t wanted_bytes = 320 * 1024, least_blocks = 16;  // of a block's transformed input and products
  static constexpr int64_t frequency_stride = (most_tiles + 1) * N_LANES, product_stride = most_tiles * most_vectors * N_LANES + N_LANES;
  using Block = SortedTiles<most_tiles>;

  int64_t in_channels, out_channels;
  int input_planes, product_planes;  // frequencies of a channel, of one phase or several
  int Z, rows;                       // of a register tile
  bool by_panels;                    // blocks of work are panels, not tiles
  int64_t panels, tiles, blocks;     // of Z vectors of output channels; tiles that are transformed together, and how often

  Blocks(int64_t in_channels, int64_t out_channels, int input_planes, int product_planes, const TileGrid& grid, const TileCounts& counts)
      : in_channels(in_channels), out_channels(out_channels), input_planes(input_planes), product_planes(product_planes) {
    Z = tile_vectors(out_channels, most_vectors), rows = tile_rows(Z, 1);
    panels = divide_up(out_channels, columns());
    by_panels = panels > 1 && grid.count < out_channels;
    const int64_t tile_bytes = (input_planes * channel_planes() * N_LANES + product_planes * columns()) * int64_t(sizeof(real));
    const int64_t wanted = larger(counts.fewest, smaller(counts.most, wanted_bytes / tile_bytes));
    tiles = larger(1, smaller(by_panels ? counts.of_panel : wanted, divide_up(grid.count, by_panels ? 1 : least_blocks)));
    if (!by_panels && tiles > 2 * rows) tiles = smaller(counts.most, divide_up(tiles, rows) * rows);  // full register tiles
    blocks = divide_up(grid.count, tiles);
  }
  INLINE int64_t columns() const { return int64_t(Z) * N_LANES; }
  INLINE int64_t channel_planes() const { return divide_up(in_channels, N_LANES); }
  INLINE int64_t plane_stride() const { return input_planes * frequency_stride; }
  INLINE int64_t input_size() const { return channel_planes() * plane_stride(); }   // [N_LANES channels][plane][tile][N_LANES]
  INLINE int64_t products_size() const { return product_planes * product_stride; }  // [frequency][tile][Z vectors]
  INLINE Tiles tiles_of(const TileGrid& grid, int64_t block) const {
    return {block * tiles, larger(0, smaller(tiles, grid.count - block * tiles))};
  }
  INLINE Block block(const TileGrid& grid, int64_t number) const { return Block(grid, tiles_of(grid, number)); }

  // products[tile] = the sum over channels, and taps of each, of input[tile] times the weights of a panel, for one frequency. `pass`
  // channels at a time, so that their weights stay in the L1 cache; rows are cut evenly into register tiles of two sizes.
  INLINE void multiply_frequency(const int32_t* tap, int taps, int64_t pass, const real* input, const real* weights, int64_t count,
                                 real* products) const {
    if (count == 0) return;
    int64_t row[most_rows];
    for (int64_t q = 0; q < most_rows; q++) row[q] = q * columns();
    const int64_t cuts = divide_up(count, rows), few = count / cuts, more = count % cuts;
    const Tile<real> few_rows = tile<real>(int(few), Z, N_LANES), more_rows = more ? tile<real>(int(few + 1), Z, N_LANES) : few_rows;
    for (int64_t c = 0; c < in_channels; c += pass) {
      const Reduction over = {tap, taps, smaller(pass, in_channels - c), plane_stride()};
      const real* a = input + c / N_LANES * plane_stride();
      Target<real> to = {products, row, nullptr, int(columns()), c > 0, Activation::none};
      for (int64_t i = 0; i < cuts; i++) {
        const int64_t n = few + (i < more);
        (i < more ? more_rows : few_rows)(over, a, weights + c * taps * columns(), to);
        a += n * N_LANES, to.y += n * columns();
      }
    }
  }
};

struct Parts {
  storage* zeros;
  real* weights;  // of all panels, or of a worker's
  real* input;    // of all blocks, or nothing
  Own<real> own;  // of a worker's tiles the input, then the products
  int64_t bytes;
};

// Each panel as it is needed, into the place of the last one
template <class S>
bool worker_packs(const Context& context, const S& s) {
  return s.by_panels && context.packing == Packing::each_call;
}

template <class S>
Parts layout(const Context& context, const S& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.zeros = scratch.take<storage>(s.channel_planes() * N_LANES);
  parts.weights = scratch.take<real>(s.panel_size() * (worker_packs(context, s) ? context.workers : s.panels));
  parts.input = scratch.take<real>(s.by_panels ? s.input_size() * s.blocks : 0);
  parts.own = {context, scratch, (s.by_panels ? 0 : s.input_size()) + s.products_size()};
  parts.bytes = scratch.bytes();
  return parts;
}

template <class S>
void run_tiles(const Context& context, const S& s, const Parts& parts, const ConvOperands& o) {
  const bool packed = context.packing == Packing::kept;
  parallel(context, packed ? 0 : s.panels * s.channel_planes(), [&](int64_t i, int) {
    const int64_t panel = i / s.channel_planes();
    s.pack(o.with, panel, i % s.channel_planes() * N_LANES, parts.weights + panel * s.panel_size());
  });
  parallel(context, s.blocks, [&](int64_t block, int worker) {
    real* const input = parts.own.of(context, worker);
    const auto tiles = s.block(s.grid, block);
    s.transform(tiles, o.in, parts.zeros, input);
    typename S::Next next(s, o, block);
    for (int64_t panel = 0; panel < s.panels; panel++)
      s.multiply(o, tiles, input, panel, parts.weights + panel * s.panel_size(), input + s.input_size(), &next);
  });
}

template <class S>
void run_panels(const Context& context, const S& s, const Parts& parts, const ConvOperands& o) {
  parallel(context, s.blocks,
           [&](int64_t block, int) { s.transform(s.block(s.grid, block), o.in, parts.zeros, parts.input + block * s.input_size()); });
  parallel(context, s.panels, [&](int64_t panel, int worker) {
    real* const weights = parts.weights + (worker_packs(context, s) ? worker : panel) * s.panel_size();
    for (int64_t in = 0; in < s.in_channels && context.packing != Packing::kept; in += N_LANES) s.pack(o.with, panel, in, weights);
    for (int64_t block = 0; block < s.blocks; block++)
      s.multiply(o, s.block(s.grid, block), parts.input + block * s.input_size(), panel, weights, parts.own.of(context, worker), nullptr);
  });
}

template <class S>
void run_sweep(const Context& context, const S& s, const ConvOperands& operands, void* scratch) {
  const Parts parts = layout(context, s, scratch);
  for (int64_t c = 0; c < s.channel_planes() * N_LANES; c += N_LANES) store(parts.zeros + c, zero());
  s.by_panels ? run_panels(context, s, parts, operands) : run_tiles(context, s, parts, operands);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
