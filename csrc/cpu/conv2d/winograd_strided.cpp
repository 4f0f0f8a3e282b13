// Winograd for 3 x 3 windows of stride 2, forward and backward to the input, as four convolutions of stride 1 (winograd_phases.h): forward
// adds up the products of the four before it transforms back, and backward transforms dy once for all.
#include "winograd_strided.h"

#include "../own.h"
#include "winograd_phases.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Tiles leave at most 0.75 of the products, those over the map's border included. Each block of tiles reads all weights: what many take to
// come was measured to be more than is saved where tiles are narrow.
constexpr int64_t most_weights = registers == 32 ? INT64_MAX : 128 * 128;
bool strided_pays(const Conv2d& v, const TileGrid& grid) {
  return strided_fits(v) && v.C * v.K <= most_weights && grid.count >= 128 && 81 * double(grid.count) <= 0.75 * 9 * double(v.N * v.P * v.Q);
}

constexpr int64_t wanted_block_bytes = 320 * 1024;  // as in winograd_sweep.cpp
constexpr int64_t fewest_tiles = 16, most_tiles = registers == 32 ? 48 : 18, least_blocks = 16;
constexpr int64_t frequency_stride = (most_tiles + 1) * N_LANES, product_stride = most_tiles * most_vectors * N_LANES + N_LANES;
constexpr int64_t pass_bytes = 32 * 1024;  // weights of a frequency that stay in the L1 cache

INLINE int phases_before(int frequency, int phase) {
  int count = 0;
  for (int p = 0; p < phase; p++) count += Phase(p).has(frequency);
  return count;
}

struct Strided {
  int64_t H, W, channels;  // of the input
  int64_t out_H, out_W, out_channels;
  TileGrid grid;  // of outputs, backward of those of a phase
  Activation activation;
  bool backward;  // phases are of the output, and taps flipped; forward they are of the input
  int Z, rows;
  int64_t panels, tiles, blocks;
  Strided(const Conv2d& v, bool backward)
      : H(backward ? v.P : v.H),
        W(backward ? v.Q : v.W),
        channels(backward ? v.K : v.C),
        out_H(backward ? v.H : v.P),
        out_W(backward ? v.W : v.Q),
        out_channels(backward ? v.C : v.K),
        grid(v.N, backward ? divide_up(v.H, 2) : v.P, backward ? divide_up(v.W, 2) : v.Q, 4),
        activation(backward ? Activation::none : v.activation),
        backward(backward) {
    Z = tile_vectors(out_channels, most_vectors), rows = tile_rows(Z, 1);
    panels = divide_up(out_channels, columns());
    const int64_t tile_bytes = frequencies * (in_phases() * channels + columns()) * int64_t(sizeof(real));
    tiles = larger(fewest_tiles, smaller(most_tiles, wanted_block_bytes / tile_bytes));
    tiles = larger(1, smaller(tiles, divide_up(grid.count, least_blocks)));
    if (tiles > 2 * rows) tiles = smaller(most_tiles, divide_up(tiles, rows) * rows);  // full register tiles
    blocks = divide_up(grid.count, tiles);
  }
  INLINE int in_phases() const { return backward ? 1 : phases; }
  INLINE int out_phases() const { return backward ? phases : 1; }
  INLINE int64_t columns() const { return int64_t(Z) * N_LANES; }
  INLINE int64_t plane_stride() const { return frequencies * frequency_stride; }
  INLINE int64_t phase_stride() const { return channels / N_LANES * plane_stride(); }
  INLINE int64_t input_size() const { return in_phases() * phase_stride(); }  // [phase][plane][frequency][tile][N_LANES]
  // Of a frequency: [block of N_LANES channels][phase][channel][Z vectors]; no power of two
  INLINE int64_t weight_stride() const { return in_phases() * channels * columns() + N_LANES; }
  INLINE int64_t panel_size() const { return out_phases() * frequencies * weight_stride(); }
};

struct Parts {
  storage* zeros;
  real* weights;
  Own<real> own;  // transformed input, then products
  int64_t bytes;
};

Parts layout(const Context& context, const Strided& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.zeros = scratch.take<storage>(s.channels);
  parts.weights = scratch.take<real>(s.panels * s.panel_size());
  parts.own = {context, scratch, s.input_size() + frequencies * product_stride};
  parts.bytes = scratch.bytes();
  return parts;
}

// The weights of N_LANES input channels and a vector of a panel's columns, at all phases and frequencies.
void pack_plane(const Strided& s, const storage* w, int64_t panel, int64_t column, int64_t in, real* weights) {
  const int64_t out = panel * s.columns() + column;
  real taps[9][N_LANES][N_LANES];  // [input channel][output channel]
  for (int tap = 0; tap < 9; tap++) {
    vec lines[N_LANES] = {};
    if (out < s.out_channels) {
      const storage* at = s.backward ? w + (in * 9 + tap) * s.out_channels + out : w + (out * 9 + tap) * s.channels + in;
      UNROLL for (int i = 0; i < N_LANES; i++) lines[i] = load(at + i * 9 * (s.backward ? s.out_channels : s.channels));
      if (!s.backward) transpose(lines);
    }
    UNROLL for (int i = 0; i < N_LANES; i++) store(taps[tap][i], lines[i]);
  }
  for (int p = 0; p < phases; p++) {
    const Phase phase(p);
    real* to[frequencies];
    for (int f = 0; f < frequencies; f++) {
      const int64_t row = s.backward ? in : in * phases_before(f, phases) + phases_before(f, p) * N_LANES;
      to[f] = weights + ((s.backward ? p * frequencies : 0) + f) * s.weight_stride() + row * s.columns() + column;
    }
    for (int64_t c = 0; c < N_LANES; c++)
      transform_tile<Halves::Filter>(
          [&](int i, int j) {
            const int r = Phase::row(phase.single_row, i, s.backward), q = Phase::row(phase.single_column, j, s.backward);
            return r < 0 || q < 0 ? zero() : load(taps[3 * r + q][c]);
          },
          [&](int i, int j, vec v) {
            if (phase.has(i, j)) store(to[i * 5 + j] + c * s.columns(), v);
          });
  }
}

void transform_block(const Strided& s, const storage* x, const storage* zeros, int64_t first, int64_t count, real* input) {
  for (int64_t t = 0; t < count; t++) {
    const TileGrid::Place place = s.grid.place(first + t);
    for (int p = 0; p < s.in_phases(); p++) {
      const Phase phase(p);
      const int64_t top = s.backward ? place.row : 2 * place.row - 1 + phase.single_row;
      const int64_t left = s.backward ? place.column : 2 * place.column - 1 + phase.single_column;
      const Pixels pixels(x, place.image, s.H, s.W, s.channels, top, left, s.backward ? 1 : 2, zeros);
      real* to = input + p * s.phase_stride() + t * N_LANES;
      for (int64_t c = 0; c < s.channels; c += N_LANES, to += s.plane_stride())
        transform_tile<Halves::Input>([&](int i, int j) { return load(pixels.at[i * 5 + j] + c); },
                                      [&](int i, int j, vec v) { store(to + (i * 5 + j) * frequency_stride, v); });
    }
  }
}

// products[tile] = the sum over the phases of the input that have the frequency
void multiply_frequency(const Strided& s, const real* input, const real* weights, int f, int64_t count, real* products) {
  int32_t tap[phases];
  int taps = 0;
  for (int p = 0; p < s.in_phases(); p++)
    if (s.backward || Phase(p).has(f)) tap[taps++] = int32_t(p * s.phase_stride());
  int64_t row[most_rows];
  for (int64_t q = 0; q < most_rows; q++) row[q] = q * s.columns();
  const int64_t cuts = divide_up(count, s.rows), few = count / cuts, more = count % cuts;
  const Tile<real> few_rows = tile<real>(int(few), s.Z, N_LANES), more_rows = more ? tile<real>(int(few + 1), s.Z, N_LANES) : few_rows;
  const int64_t plane_bytes = taps * N_LANES * s.columns() * int64_t(sizeof(real)), pass = larger(1, pass_bytes / plane_bytes) * N_LANES;
  for (int64_t c = 0; c < s.channels; c += pass) {
    const Reduction over = {tap, taps, smaller(pass, s.channels - c), s.plane_stride()};
    const real* a = input + c / N_LANES * s.plane_stride() + f * frequency_stride;
    Target<real> to = {products, row, nullptr, int(s.columns()), c > 0, Activation::none};
    for (int64_t i = 0; i < cuts; i++) {
      const int64_t n = few + (i < more);
      (i < more ? more_rows : few_rows)(over, a, weights + c * taps * s.columns(), to);
      a += n * N_LANES, to.y += n * s.columns();
    }
  }
}

template <Activation activation>
void transform_back(const Strided& s, const real* products, const real* bias, const Phase& phase, int64_t channel, int64_t first,
                    int64_t count, storage* y) {
  const int64_t step = s.backward ? 2 : 1, top = s.backward ? 1 - phase.single_row : 0, left = s.backward ? 1 - phase.single_column : 0;
  const int64_t pixel_step = step * s.out_channels, row = step * s.out_W * s.out_channels;
  for (int64_t t = 0; t < count; t++) {
    const TileGrid::Place at = s.grid.place(first + t);
    const int64_t h = at.row * step + top, w = at.column * step + left;
    const int64_t height = divide_up(s.out_H - h, step), width = divide_up(s.out_W - w, step);
    storage* pixel = y + ((at.image * s.out_H + h) * s.out_W + w) * s.out_channels + channel;
    const real* product = products + t * s.columns();
    for (int64_t k = 0; k < smaller(s.columns(), s.out_channels - channel); k += N_LANES) {
      const vec b = bias ? load(bias + channel + k) : zero();
      transform_tile<Halves::Output>(
          [&](int i, int j) { return phase.has(i, j) ? load(product + k + (i * 5 + j) * product_stride) : zero(); },
          [&](int i, int j, vec v) {
            if (i < height && j < width) store(pixel + k + i * row + j * pixel_step, activate<activation>(v + b));
          });
    }
  }
}

void run_block(const Strided& s, const Parts& parts, const ConvOperands& o, int64_t block, real* input, real* products) {
  const int64_t first = block * s.tiles, count = smaller(s.tiles, s.grid.count - first), images = s.grid.images();
  transform_block(s, o.in, parts.zeros, first, count, input);
  Surroundings around = {Ahead::of_block(o.in, images * s.H * s.W * s.channels, block + 1, s.blocks, frequencies * s.panels),
                         Ahead::of_block(o.out, images * s.out_H * s.out_W * s.out_channels, block, s.blocks, frequencies)};
  for (int64_t panel = 0; panel < s.panels; panel++)
    for (int p = 0; p < s.out_phases(); p++) {
      const Phase phase(s.backward ? p : 0);
      const real* weights = parts.weights + panel * s.panel_size() + p * frequencies * s.weight_stride();
      for (int f = 0; f < frequencies; f++) {
        around.step();
        if (phase.has(f)) multiply_frequency(s, input, weights + f * s.weight_stride(), f, count, products + f * product_stride);
      }
      with_activation(s.activation, [&](auto constant) {
        transform_back<decltype(constant)::activation>(s, products, o.bias, phase, panel * s.columns(), first, count, o.out);
      });
    }
}

template <bool backward>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, Strided(v, backward), nullptr).bytes;
}

template <bool backward>
void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Strided s(v, backward);
  const Parts parts = layout(context, s, scratch);
  __builtin_memset(parts.zeros, 0, s.channels * sizeof(storage));
  const int64_t planes = s.channels / N_LANES;
  parallel(context, context.packing == Packing::kept ? 0 : s.panels * planes, [&](int64_t i, int) {
    for (int64_t column = 0; column < s.columns(); column += N_LANES)
      pack_plane(s, o.with, i / planes, column, i % planes * N_LANES, parts.weights + i / planes * s.panel_size());
  });
  parallel(context, s.blocks, [&](int64_t block, int worker) {
    real* const input = parts.own.of(context, worker);
    run_block(s, parts, o, block, input, input + s.input_size());
  });
}

template <bool backward>
bool accepts(const Conv2d& v) {
  return strided_pays(v, Strided(v, backward).grid);
}

}  // namespace

const ConvAlgorithm winograd_strided_forward = {"winograd_strided", accepts<false>, scratch_bytes<false>, run<false>, true, true};
const ConvAlgorithm winograd_strided_backward_input = {"winograd_strided", accepts<true>, scratch_bytes<true>, run<true>, true, true};

}  // namespace fastnn::FASTNN_TABLE
