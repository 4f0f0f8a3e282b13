// Winograd F(4 x 4, 3 x 3) for one or two vectors of channels, forward and backward to the input. What a block of tiles is transformed to
// stays in the L1 cache: the products of a frequency take the place of the transformed inputs that they were made of, and the weights of
// all frequencies, which nearly fill that cache themselves, come from the L2 once for each block.
#include "winograd_narrow.h"

#include "../own.h"
#include "winograd_output.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Sweep {
  Map in;
  TileGrid grid;
  int64_t out_channels;
  Activation activation;
  bool flipped;  // backward: taps flipped, and w's channels in the roles of each other
  int64_t blocks() const { return divide_up(grid.count, narrow_tiles(larger(in.channels, out_channels))); }
};

struct Parts {
  storage* zeros;
  real* weights;  // [frequency][input channel][output channel]
  Own<real> own;  // [frequency][tile][channel]
  int64_t bytes;
};

Parts layout(const Context& context, const Sweep& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.zeros = scratch.take<storage>(s.in.channels);
  parts.weights = scratch.take<real>(36 * s.in.channels * s.out_channels);
  parts.own = {context, scratch, 36 * narrow_stride(larger(s.in.channels, s.out_channels))};
  parts.bytes = scratch.bytes();
  return parts;
}

// tiles[q] <- tiles[q] times the weights, for one frequency: C vectors of channels become K
template <int C, int K>
void multiply(real* tiles, const real* weights) {
  constexpr int pitch = (C > K ? C : K) * N_LANES, count = int(narrow_tiles(pitch));
  constexpr int together = count < registers / 2 / K ? count : registers / 2 / K;
  for (int first = 0; first < count; first += together, tiles += together * pitch) {
    vec sum[together][K];
    UNROLL for (int q = 0; q < together; q++) UNROLL for (int k = 0; k < K; k++) sum[q][k] = zero();
    const real* row = weights;
    SHORT_STEPS for (int c = 0; c < C * N_LANES; c++, row += K * N_LANES) {
      vec w[K];
      UNROLL for (int k = 0; k < K; k++) w[k] = load(row + k * N_LANES);
      UNROLL for (int q = 0; q < together; q++) {
        const vec x = broadcast<K>(tiles + q * pitch + c);
        UNROLL for (int k = 0; k < K; k++) sum[q][k] = fma(x, w[k], sum[q][k]);
      }
    }
    UNROLL for (int q = 0; q < together; q++) UNROLL for (int k = 0; k < K; k++) store(tiles + q * pitch + k * N_LANES, sum[q][k]);
  }
}

template <int K, int64_t stride>
__attribute__((noinline)) void write_tile(const Sweep& s, const TileGrid::Place& at, const real* products, const ConvOperands& o) {
  constexpr int64_t pixel = K * N_LANES;
  const int64_t row = s.grid.Q * pixel, corner = (at.image * s.grid.P + at.row) * row + at.column * pixel;
  for (int64_t k = 0; k < pixel; k += N_LANES)
    write_pixels<Winograd<4>::Output, stride>(
        products + k, {o.out + corner + k, o.residual ? o.residual + corner + k : nullptr, o.bias ? o.bias + k : nullptr, row, pixel,
                       s.grid.P - at.row, s.grid.Q - at.column, N_LANES, s.activation});
}

template <int C, int K>
void run_block(const Sweep& s, const Parts& parts, const ConvOperands& o, int64_t block, real* tiles) {
  constexpr int64_t pitch = (C > K ? C : K) * N_LANES, stride = narrow_stride(pitch);
  const int64_t first = block * narrow_tiles(pitch), count = smaller(narrow_tiles(pitch), s.grid.count - first);
  Walk place(s.grid, first);
  for (int64_t t = 0; t < count; t++, place.next())
    gather_tile<Winograd<4>::Input, C, stride>(s.in, o.in, parts.zeros, place.at, tiles + t * pitch);
  if (const int64_t missing = narrow_tiles(pitch) - count)  // in the last block: multiplied as the others are
    for (int f = 0; f < 36; f++) __builtin_memset(tiles + f * stride + count * pitch, 0, size_t(missing * pitch) * sizeof(real));
  const int64_t out_size = s.grid.images() * s.grid.P * s.grid.Q * s.out_channels;
  Surroundings around = {Ahead::of_block(o.in, s.grid.images() * s.in.image(), block + 1, s.blocks(), 36),
                         Ahead::of_block(o.out, out_size, block, s.blocks(), 36),
                         Ahead::of_block(o.residual, out_size, block, s.blocks(), 36)};
  for (int f = 0; f < 36; f++) {
    around.step();
    multiply<C, K>(tiles + f * stride, parts.weights + f * C * K * N_LANES * N_LANES);
  }
  Walk to(s.grid, first);
  for (int64_t t = 0; t < count; t++, to.next()) write_tile<K, stride>(s, to.at, tiles + t * pitch, o);
}

template <int C, int K>
void run_blocks(const Context& context, const Sweep& s, const Parts& parts, const ConvOperands& o) {
  const int64_t together = larger(1, smaller(narrow_together, s.blocks() / 16));  // a single image is work for several, too
  parallel(context, divide_up(s.blocks(), together), [&](int64_t turn, int worker) {
    for (int64_t block = turn * together; block < smaller(s.blocks(), (turn + 1) * together); block++)
      run_block<C, K>(s, parts, o, block, parts.own.of(context, worker));
  });
}

void run_sweep(const Context& context, const Sweep& s, const ConvOperands& o, void* scratch) {
  const Parts parts = layout(context, s, scratch);
  __builtin_memset(parts.zeros, 0, s.in.channels * sizeof(storage));
  for (int64_t out = 0; out < s.out_channels && context.packing != Packing::kept; out += N_LANES)
    for (int64_t in = 0; in < s.in.channels; in += N_LANES)
      transform_weights<4>({o.with, s.out_channels, s.in.channels, s.flipped}, out, in, parts.weights + in * s.out_channels + out,
                           s.out_channels, s.in.channels * s.out_channels);
  with_vectors(s.in.channels, s.out_channels, [&](auto C, auto K) { run_blocks<decltype(C)::of, decltype(K)::of>(context, s, parts, o); });
}

Sweep forward_sweep(const Conv2d& v) {
  return {{v.H, v.W, v.C, -v.pad_top, -v.pad_left}, TileGrid(v.N, v.P, v.Q, 4), v.K, v.activation, false};
}
Sweep backward_sweep(const Conv2d& v) {
  return {{v.P, v.Q, v.K, v.pad_top - 2, v.pad_left - 2}, TileGrid(v.N, v.H, v.W, 4), v.C, Activation::none, true};
}

template <Sweep (*sweep_of)(const Conv2d&)>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, sweep_of(v), nullptr).bytes;
}
template <Sweep (*sweep_of)(const Conv2d&)>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  run_sweep(context, sweep_of(v), operands, scratch);
}

bool accepts_forward(const Conv2d& v) { return narrow_pays(v, TileGrid(v.N, v.P, v.Q, 4)); }
bool accepts_backward(const Conv2d& v) { return narrow_pays(v, TileGrid(v.N, v.H, v.W, 4)); }

}  // namespace

const ConvAlgorithm winograd4_narrow_forward = {
    "winograd4_narrow", accepts_forward, scratch_bytes<forward_sweep>, run<forward_sweep>, true, true, true};
const ConvAlgorithm winograd4_narrow_backward_input = {
    "winograd4_narrow", accepts_backward, scratch_bytes<backward_sweep>, run<backward_sweep>, true, true, true};

}  // namespace fastnn::FASTNN_TABLE
