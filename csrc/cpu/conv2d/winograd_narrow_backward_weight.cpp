// Winograd F(4 x 4, 3 x 3) for one or two vectors of channels, backward to the weight: for each frequency, sums over tiles of transformed
// dy times transformed x. A part of the tiles goes through the L1 cache block by block; the part's sums, which wait in the L2, are read
// and written once for each block. They are added in their order by a second launch.
#include "../own.h"
#include "winograd_narrow.h"
#include "winograd_normalized.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_parts = 16, least_part_tiles = 64;
// Tiles of a block, twice those of the other directions: for each block all sums are read and written.
constexpr int64_t block_tiles(int64_t channels) { return 2 * narrow_tiles(channels); }

struct Weights {
  Map x, dy;
  TileGrid grid;
  int64_t parts;
  Activation activation;  // of an x that is made again
  explicit Weights(const Conv2d& v)
      : x{v.H, v.W, v.C, -v.pad_top, -v.pad_left},
        dy{v.P, v.Q, v.K, 0, 0},
        grid(v.N, v.P, v.Q, 4),
        parts(larger(1, smaller(most_parts, grid.count / least_part_tiles))),
        activation(v.activation) {}
  INLINE int64_t size() const { return 36 * x.channels * dy.channels; }  // of a part's sums, [frequency][k][c]
  INLINE int64_t tiles() const { return block_tiles(larger(x.channels, dy.channels)); }
  INLINE int64_t x_stride() const { return tiles() * x.channels + N_LANES; }
  INLINE int64_t dy_stride() const { return tiles() * dy.channels + N_LANES; }
};

struct Parts {
  real* sums;
  storage* zeros;
  Own<real> own;  // transformed x, then dy: [frequency][tile][channel]
  int64_t bytes;
};

Parts layout(const Context& context, const Weights& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.sums = scratch.take<real>(d.parts * d.size());
  parts.zeros = scratch.take<storage>(larger(d.x.channels, d.dy.channels));
  parts.own = {context, scratch, 36 * (d.x_stride() + d.dy_stride())};
  parts.bytes = scratch.bytes();
  return parts;
}

// sums[k][c] (+)= sum over tiles of dy[tile][k] x[tile][c], for one frequency
template <int C, int K>
INLINE void multiply(const real* x, const real* dy, int64_t tiles, real* sums, bool more) {
  constexpr int rows = registers / 2 / C;
  for (int k = 0; k < K * N_LANES; k += rows) {
    vec sum[rows][C];
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int c = 0; c < C; c++) sum[q][c] = zero();
    SHORT_STEPS for (int64_t t = 0; t < tiles; t++) {
      vec pixel[C];
      UNROLL for (int c = 0; c < C; c++) pixel[c] = load(x + (t * C + c) * N_LANES);
      UNROLL for (int q = 0; q < rows; q++) {
        const vec b = broadcast<C>(dy + t * K * N_LANES + k + q);
        UNROLL for (int c = 0; c < C; c++) sum[q][c] = fma(b, pixel[c], sum[q][c]);
      }
    }
    UNROLL for (int q = 0; q < rows; q++) UNROLL for (int c = 0; c < C; c++) {
      real* to = sums + ((k + q) * C + c) * N_LANES;
      store(to, more ? load(to) + sum[q][c] : sum[q][c]);
    }
  }
}

template <int C, int K, bool makes_x>
void sum_part(const Weights& d, const Parts& parts, const ConvOperands& o, int64_t part, real* x_tiles, real* sums) {
  constexpr int64_t tiles_of_block = block_tiles((C > K ? C : K) * N_LANES);
  constexpr int64_t x_stride = tiles_of_block * C * N_LANES + N_LANES, dy_stride = tiles_of_block * K * N_LANES + N_LANES;
  const int64_t begin = d.grid.count * part / d.parts, end = d.grid.count * (part + 1) / d.parts;
  real* dy_tiles = x_tiles + 36 * x_stride;
  Walk place(d.grid, begin);
  const int64_t blocks = divide_up(d.grid.count, tiles_of_block);
  for (int64_t first = begin; first < end; first += tiles_of_block) {
    const int64_t tiles = smaller(tiles_of_block, end - first);
    for (int64_t t = 0; t < tiles; t++, place.next()) {
      if constexpr (makes_x) {
        storage x[36 * C * N_LANES];
        normalize_tile<6>(d.x, o.in, *o.normalized, d.activation, place.at, 0, C * N_LANES, x, C * N_LANES);
        gather_tile<Winograd<4>::Input, C, x_stride>({6, 6, C * N_LANES, 0, 0}, x, parts.zeros, {}, x_tiles + t * C * N_LANES);
      } else {
        gather_tile<Winograd<4>::Input, C, x_stride>(d.x, o.in, parts.zeros, place.at, x_tiles + t * C * N_LANES);
      }
      gather_tile<Winograd<4>::OutputGradient, K, dy_stride>(d.dy, o.with, parts.zeros, place.at, dy_tiles + t * K * N_LANES);
    }
    Ahead next_x = Ahead::of_block(o.in, d.grid.images() * d.x.image(), first / tiles_of_block + 1, blocks, 36);
    Ahead next_dy = Ahead::of_block(o.with, d.grid.images() * d.dy.image(), first / tiles_of_block + 1, blocks, 36);
    for (int f = 0; f < 36; f++) {
      next_x.step(), next_dy.step();
      multiply<C, K>(x_tiles + f * x_stride, dy_tiles + f * dy_stride, tiles, sums + f * C * K * N_LANES * N_LANES, first > begin);
    }
  }
}

// dw of output channel k: the parts' sums in order, transformed
void finish(const Weights& d, const real* sums, int64_t k, real* dw) {
  const int64_t C = d.x.channels, K = d.dy.channels;
  for (int64_t c = 0; c < C; c += N_LANES)
    transform_tile<Winograd<4>::FilterGradient>(
        [&](int i, int j) {
          const real* at = sums + ((i * 6 + j) * K + k) * C + c;
          vec sum = load(at);
          for (int64_t part = 1; part < d.parts; part++) sum += load(at + part * d.size());
          return sum;
        },
        [&](int i, int j, vec v) { store(dw + (k * 9 + 3 * i + j) * C + c, v); });
}

template <int C, int K, bool makes_x>
void sum_parts(const Context& context, const Weights& d, const Parts& parts, const ConvOperands& o) {
  parallel(context, d.parts, [&](int64_t part, int worker) {
    sum_part<C, K, makes_x>(d, parts, o, part, parts.own.of(context, worker), parts.sums + part * d.size());
  });
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, Weights(v), nullptr).bytes; }

void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  const Weights d(v);
  const Parts parts = layout(context, d, scratch);
  __builtin_memset(parts.zeros, 0, larger(v.C, v.K) * sizeof(storage));
  with_vectors(v.C, v.K, [&](auto C, auto K) {
    const auto sum =
        operands.normalized ? sum_parts<decltype(C)::of, decltype(K)::of, true> : sum_parts<decltype(C)::of, decltype(K)::of, false>;
    sum(context, d, parts, operands);
  });
  parallel(context, v.K, [&](int64_t k, int) { finish(d, parts.sums, k, operands.dw); });
}

bool accepts(const Conv2d& v) {
  const TileGrid grid(v.N, v.P, v.Q, 4);
  return narrow_pays(v, grid) && grid.count >= 2 * least_part_tiles;
}

bool normalizes(const Conv2d& v) { return is_cheap(v.activation); }

}  // namespace

const ConvAlgorithm winograd4_narrow_backward_weight = {"winograd4_narrow", accepts, scratch_bytes, run, true, false, false, normalizes};

}  // namespace fastnn::FASTNN_TABLE
