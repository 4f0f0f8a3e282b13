// Winograd, forward and backward to the input (dy convolved with the flipped taps).
#include "winograd_ahead.h"
#include "winograd_blocks.h"
#include "winograd_output.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_tiles = 18;
constexpr TileCounts tile_counts = {16, most_tiles, most_tiles};
constexpr int64_t pass_channels = 128;  // so that a pass's weights of one frequency stay in the L1 cache

template <int M>
struct Sweep : Blocks<most_tiles> {
  static constexpr int T = Winograd<M>::T, frequencies = T * T;
  Map in;
  TileGrid grid;
  Activation activation;
  bool flipped;  // taps flipped and w's channels in the roles of each other: backward

  Sweep(const Map& in, const TileGrid& grid, int64_t out_channels, Activation activation, bool flipped)
      : Blocks(in.channels, out_channels, frequencies, frequencies, grid, tile_counts),
        in(in),
        grid(grid),
        activation(activation),
        flipped(flipped) {}

  INLINE Map out() const { return {grid.P, grid.Q, out_channels, 0, 0}; }
  INLINE int64_t weight_stride() const { return in_channels * columns() + N_LANES; }  // of a frequency, no power of two
  INLINE int64_t panel_size() const { return frequencies * weight_stride(); }         // [frequency][input channel][Z vectors]

  struct Next : TilesAhead {
    Next(const Sweep& s, const ConvOperands& o, int64_t block)
        : TilesAhead(s.in, o.in, 2, s.grid, s.tiles_of(s.grid, block + 1), {0, s.in_channels}, frequencies * s.panels) {}
  };
  void pack(const storage* w, int64_t panel, int64_t in, real* weights) const;
  void transform(const Block& tiles, const storage* x, const storage* zeros, real* input) const;
  void multiply(const ConvOperands& o, const Block& tiles, const real* input, int64_t panel, const real* weights, real* products,
                Next* next) const;
  void transform_back(const ConvOperands& o, const real* products, int64_t first_channel, const Block& tiles) const;
};

// Columns that no output channel has are 0.
template <int M>
void Sweep<M>::pack(const storage* w, int64_t panel, int64_t in, real* weights) const {
  for (int64_t column = 0; column < columns(); column += N_LANES) {
    const int64_t out = panel * columns() + column;
    real* to = weights + in * columns() + column;
    if (out < out_channels) {
      transform_weights<M>({w, out_channels, in_channels, flipped}, out, in, to, columns(), weight_stride());
      continue;
    }
    for (int f = 0; f < frequencies; f++, to += weight_stride())
      for (int64_t k = 0; k < smaller(N_LANES, in_channels - in); k++) store(to + k * columns(), zero());
  }
}

template <int M>
void Sweep<M>::transform(const Block& tiles, const storage* x, const storage* zeros, real* input) const {
  TilePixels<T> pixels(in, x, zeros, tiles.at[0]);
  for (int64_t t = 0; t < tiles.count; t++) {
    const TilePixels<T> next(in, x, zeros, tiles.at[smaller(t + 1, tiles.count - 1)]);
    transform_pixels<typename Winograd<M>::Input, Sweep::frequency_stride>(pixels, next, 0, in_channels, input + t * N_LANES,
                                                                           plane_stride());
    pixels = next;
  }
}

// The products that a smaller tile lacks are whatever lies there: what they add to, its last row or column, is not written.
template <int M>
void Sweep<M>::transform_back(const ConvOperands& o, const real* products, int64_t first_channel, const Block& tiles) const {
  const int64_t end = smaller(first_channel + columns(), out_channels), pixel = out_channels, row = grid.Q * pixel;
  const auto corner = [&](int64_t t) { return ((tiles.at[t].image * grid.P + tiles.at[t].row) * grid.Q + tiles.at[t].column) * pixel; };
  for (int64_t t = 0; t < tiles.count; t++, products += columns()) {
    const TileGrid::Place at = tiles.at[t];
    const int64_t height = smaller(M - !at.tall, grid.P - at.row), width = smaller(M - !at.wide, grid.Q - at.column);
    const storage* next = o.residual ? o.residual + corner(smaller(t + 1, tiles.count - 1)) : nullptr;
    for (int64_t k = first_channel; k < end; k += N_LANES) {
      if (next)
        for (int i = 0; i < M; i++)
          for (int j = 0; j < M; j++) __builtin_prefetch(next + k + i * row + j * pixel);
      const int64_t to = corner(t) + k;
      write_pixels<typename Winograd<M>::Output, Sweep::product_stride>(
          products + k - first_channel, {o.out + to, o.residual ? o.residual + to : nullptr, o.bias ? o.bias + k : nullptr, row, pixel,
                                         height, width, int(smaller(N_LANES, end - k)), activation});
    }
  }
}

// Meanwhile lines of y are asked for, which are read before they are written, and what comes next.
template <int M>
void Sweep<M>::multiply(const ConvOperands& o, const Block& tiles, const real* input, int64_t panel, const real* weights, real* products,
                        Next* next) const {
  const int64_t channel = panel * columns();
  const Channels channels = {channel, smaller(columns(), out_channels - channel)};
  TilesAhead own(out(), o.out, 0, grid, tiles, channels, frequencies);
  TilesAhead added(out(), o.residual, 0, grid, tiles, channels, frequencies);
  const int32_t no_offset = 0;
  for (int f = 0; f < frequencies; f++) {
    own.step(), added.step();
    if (next) next->step();
    const auto [first, count] = tiles.with(f / T, f % T, T);
    multiply_frequency(&no_offset, 1, pass_channels, input + f * frequency_stride + first * N_LANES, weights + f * weight_stride(), count,
                       products + f * product_stride + first * columns());
  }
  transform_back(o, products, channel, tiles);
}

// --- as algorithms

template <int M>
Sweep<M> forward_sweep(const Conv2d& v) {
  return Sweep<M>({v.H, v.W, v.C, -v.pad_top, -v.pad_left}, FittingGrid(v.N, v.P, v.Q, M), v.K, v.activation, false);
}
template <int M>
Sweep<M> backward_sweep(const Conv2d& v) {
  return Sweep<M>({v.P, v.Q, v.K, v.pad_top - 2, v.pad_left - 2}, FittingGrid(v.N, v.H, v.W, M), v.C, Activation::none, true);
}

template <int M, Sweep<M> (*sweep_of)(const Conv2d&)>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, sweep_of(v), nullptr).bytes;
}
template <int M, Sweep<M> (*sweep_of)(const Conv2d&)>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  run_sweep(context, sweep_of(v), operands, scratch);
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
