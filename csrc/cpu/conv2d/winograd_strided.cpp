// Winograd for 3 x 3 windows of stride 2, forward and backward to the input, as four convolutions of stride 1 (winograd_phases.h): forward
// adds up the products of the four before it transforms back, and backward transforms dy once for all.
#include "winograd_strided.h"

#include "winograd_blocks.h"
#include "winograd_phases.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Tiles leave at most 0.75 of the products, and are enough to be worth the transform of the weights, as measured. Each block of tiles reads
// all weights: what many take to come was measured to be more than is saved where tiles are narrow.
constexpr int64_t most_weights = registers == 32 ? INT64_MAX : 128 * 128;
bool strided_pays(const Conv2d& v, const TileGrid& grid) {
  const int64_t enough = registers < 32 || smaller(v.C, v.K) < 128 ? 128 : v.C * v.K <= 128 * 128 ? 24 : 64;
  return strided_fits(v) && v.C * v.K <= most_weights && grid.count >= enough &&
         double(strided_products(grid)) <= 0.75 * 9 * double(v.N * v.P * v.Q);
}

constexpr int64_t most_tiles = registers == 32 ? 48 : 18;
constexpr TileCounts tile_counts = registers == 32 ? TileCounts{24, most_tiles, 36} : TileCounts{16, most_tiles, most_tiles};
constexpr int64_t pass_bytes = 32 * 1024;  // weights of a frequency that stay in the L1 cache

FittingGrid strided_grid(const Conv2d& v, bool backward) {
  return backward ? FittingGrid(v.N, divide_up(v.H, 2), divide_up(v.W, 2), 4) : FittingGrid(v.N, v.P, v.Q, 4);
}

// How many phases have the frequencies before each
constexpr struct PhasesBefore {
  int count[frequencies + 1] = {};
  constexpr PhasesBefore() {
    for (int f = 0; f < frequencies; f++) {
      count[f + 1] = count[f];
      for (int p = 0; p < phases; p++) count[f + 1] += Phase(p).has(f);
    }
  }
} phases_before;

struct Strided : Blocks<most_tiles> {
  int64_t H, W;  // of the input
  int64_t out_H, out_W;
  FittingGrid grid;  // of outputs, backward of those of a phase
  Activation activation;
  bool backward;  // phases are of the output, and taps flipped; forward they are of the input

  Strided(const Conv2d& v, bool backward) : Strided(v, backward, strided_grid(v, backward)) {}
  Strided(const Conv2d& v, bool backward, const FittingGrid& grid)
      : Blocks(backward ? v.K : v.C, backward ? v.C : v.K, backward ? frequencies : strided_planes, frequencies, grid, tile_counts),
        H(backward ? v.P : v.H),
        W(backward ? v.Q : v.W),
        out_H(backward ? v.H : v.P),
        out_W(backward ? v.W : v.Q),
        grid(grid),
        activation(backward ? Activation::none : v.activation),
        backward(backward) {}
  INLINE int in_phases() const { return backward ? 1 : phases; }
  INLINE int out_phases() const { return backward ? phases : 1; }
  INLINE int64_t weight_stride() const { return in_channels * columns() + N_LANES; }  // of a phase's frequency; no power of two
  // Backward [phase][frequency][channel][Z vectors], forward [frequency][N_LANES channels][phase][channel][Z vectors]
  INLINE int64_t panel_size() const { return strided_planes * weight_stride(); }
  INLINE int64_t weights_at(int phase, int f) const {
    return (backward ? plane(phase, f / 5, f % 5) : phases_before.count[f]) * weight_stride();
  }

  struct Next : Surroundings {
    Next(const Strided& s, const ConvOperands& o, int64_t block)
        : Surroundings{Ahead::of_block(o.in, s.grid.images() * s.H * s.W * s.in_channels, block + 1, s.blocks, frequencies * s.panels),
                       Ahead::of_block(o.out, s.grid.images() * s.out_H * s.out_W * s.out_channels, block, s.blocks, frequencies)} {}
  };
  void pack(const storage* w, int64_t panel, int64_t in, real* weights) const;
  void transform(const Block& tiles, const storage* x, const storage* zeros, real* input) const;
  void multiply(const ConvOperands& o, const Block& tiles, const real* input, int64_t panel, const real* weights, real* products,
                Next* next) const;

 private:
  void pack_vector(const storage* w, int64_t panel, int64_t column, int64_t in, real* weights) const;
  template <int p>
  void transform_phase(const Block& tiles, const storage* x, const storage* zeros, real* input) const;
  template <Activation activation>
  void transform_back(const Block& tiles, const real* products, const real* bias, const Phase& phase, int64_t channel, storage* y) const;
};

// The weights of N_LANES input channels and a vector of a panel's columns, at all phases and frequencies.
void Strided::pack_vector(const storage* w, int64_t panel, int64_t column, int64_t in, real* weights) const {
  const int64_t out = panel * columns() + column;
  real taps[9][N_LANES][N_LANES];  // [input channel][output channel]
  for (int tap = 0; tap < 9; tap++) {
    vec lines[N_LANES] = {};
    if (out < out_channels) {
      const storage* at = backward ? w + (in * 9 + tap) * out_channels + out : w + (out * 9 + tap) * in_channels + in;
      UNROLL for (int i = 0; i < N_LANES; i++) lines[i] = load(at + i * 9 * (backward ? out_channels : in_channels));
      if (!backward) transpose(lines);
    }
    UNROLL for (int i = 0; i < N_LANES; i++) store(taps[tap][i], lines[i]);
  }
  int others[frequencies] = {};  // phases before this one that have a frequency
  for (int p = 0; p < phases; p++) {
    const Phase phase(p);
    real* to[frequencies];
    for (int f = 0; f < frequencies; f++) {
      const int64_t row = backward ? in : in * (phases_before.count[f + 1] - phases_before.count[f]) + others[f] * N_LANES;
      if (phase.has(f)) to[f] = weights + weights_at(p, f) + row * columns() + column, others[f]++;
    }
    for (int64_t c = 0; c < N_LANES; c++)
      transform_tile<Halves::Filter>(
          [&](int i, int j) {
            const int r = Phase::row(phase.single_row, i, backward), q = Phase::row(phase.single_column, j, backward);
            return r < 0 || q < 0 ? zero() : load(taps[3 * r + q][c]);
          },
          [&](int i, int j, vec v) {
            if (phase.has(i, j)) store(to[i * 5 + j] + c * columns(), v);
          });
  }
}

void Strided::pack(const storage* w, int64_t panel, int64_t in, real* weights) const {
  for (int64_t column = 0; column < columns(); column += N_LANES) pack_vector(w, panel, column, in, weights);
}

template <int p>
void Strided::transform_phase(const Block& tiles, const storage* x, const storage* zeros, real* input) const {
  constexpr Phase phase(p);
  for (int64_t t = 0; t < tiles.count; t++) {
    const TileGrid::Place& at = tiles.at[t];
    const int64_t top = backward ? at.row : 2 * at.row - 1 + phase.single_row;
    const int64_t left = backward ? at.column : 2 * at.column - 1 + phase.single_column;
    const Pixels pixels(x, at.image, H, W, in_channels, top, left, backward ? 1 : 2, zeros);
    real* to = input + t * N_LANES;
    for (int64_t c = 0; c < in_channels; c += N_LANES, to += plane_stride())
      transform_tile<Halves::Input>([&](int i, int j) { return load(pixels.at[i * 5 + j] + c); },
                                    [&](int i, int j, vec v) {
                                      if (phase.has(i, j)) store(to + plane(p, i, j) * frequency_stride, v);
                                    });
  }
}
void Strided::transform(const Block& tiles, const storage* x, const storage* zeros, real* input) const {
  transform_phase<0>(tiles, x, zeros, input);
  if (backward) return;
  transform_phase<1>(tiles, x, zeros, input);
  transform_phase<2>(tiles, x, zeros, input);
  transform_phase<3>(tiles, x, zeros, input);
}

template <Activation activation>
void Strided::transform_back(const Block& tiles, const real* products, const real* bias, const Phase& phase, int64_t channel,
                             storage* y) const {
  const int64_t step = backward ? 2 : 1, top = backward ? 1 - phase.single_row : 0, left = backward ? 1 - phase.single_column : 0;
  const int64_t pixel_step = step * out_channels, row = step * out_W * out_channels;
  for (int64_t t = 0; t < tiles.count; t++) {
    const TileGrid::Place& at = tiles.at[t];
    const int64_t h = at.row * step + top, w = at.column * step + left;
    const int64_t height = smaller(4 - !at.tall, divide_up(out_H - h, step)), width = smaller(4 - !at.wide, divide_up(out_W - w, step));
    storage* pixel = y + ((at.image * out_H + h) * out_W + w) * out_channels + channel;
    const real* product = products + t * columns();
    for (int64_t k = 0; k < smaller(columns(), out_channels - channel); k += N_LANES) {
      const vec b = bias ? load(bias + channel + k) : zero();
      transform_tile<Halves::Output>(
          [&](int i, int j) { return phase.has(i, j) ? load(product + k + (i * 5 + j) * product_stride) : zero(); },
          [&](int i, int j, vec v) {
            if (i < height && j < width) store(pixel + k + i * row + j * pixel_step, activate<activation>(v + b));
          });
    }
  }
}

void Strided::multiply(const ConvOperands& o, const Block& tiles, const real* input, int64_t panel, const real* weights, real* products,
                       Next* next) const {
  for (int p = 0; p < out_phases(); p++) {
    const Phase phase(p);
    for (int f = 0; f < frequencies; f++) {
      if (next) next->step();
      if (!phase.has(f)) continue;
      int32_t tap[phases];
      int taps = 0;
      for (int q = 0; q < in_phases(); q++)
        if (Phase(q).has(f)) tap[taps++] = int32_t(plane(q, f / 5, f % 5) * frequency_stride);
      const int64_t pass = larger(1, pass_bytes / (taps * N_LANES * columns() * int64_t(sizeof(real)))) * N_LANES;
      const auto [first, count] = tiles.with(f / 5, f % 5, 5);
      multiply_frequency(tap, taps, pass, input + first * N_LANES, weights + weights_at(p, f), count,
                         products + f * product_stride + first * columns());
    }
    with_activation(activation, [&](auto constant) {
      transform_back<decltype(constant)::activation>(tiles, products, o.bias, phase, panel * columns(), o.out);
    });
  }
}

template <bool backward>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, Strided(v, backward), nullptr).bytes;
}

template <bool backward>
void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  run_sweep(context, Strided(v, backward), o, scratch);
}

template <bool backward>
bool accepts(const Conv2d& v) {
  return strided_pays(v, strided_grid(v, backward));
}

}  // namespace

const ConvAlgorithm winograd_strided_forward = {"winograd_strided", accepts<false>, scratch_bytes<false>, run<false>, true, true};
const ConvAlgorithm winograd_strided_backward_input = {"winograd_strided", accepts<true>, scratch_bytes<true>, run<true>, true, true};

}  // namespace fastnn::FASTNN_TABLE
