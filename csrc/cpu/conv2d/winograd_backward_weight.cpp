// Winograd, backward to the weight: for each frequency, sums over tiles of transformed dy times transformed x. A block of work owns some
// output by some input channels and a part of the tiles. Where there is one part, its sums are transformed to dw while they are in the
// cache; those of several are added in their order by a second launch.
#include "../own.h"
#include "winograd_normalized.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t block_channels = 64;  // of x and of dy: their sums, 36 x 64 x 64, nearly fit the L2 cache
// Transformed at once; longer sums are sums of such. With vectors of 256 bits these are products of so few cycles that reading and writing
// their sums would be a fifth of them.
constexpr int64_t run_tiles = vector_bytes == 32 ? 32 : 16, least_tiles = 32;
constexpr int64_t tile_stride = run_tiles * block_channels + N_LANES;  // of a frequency: a constant, no power of two
constexpr int64_t wanted_blocks = 16, least_part_tiles = 128, most_sum_bytes = 32 << 20;

struct Weights {
  Map x, dy;
  TileGrid grid;
  int64_t C, K, c_blocks, k_blocks, parts;
  int64_t c_width, k_width;  // channels of a block, whole vectors
  int frequencies;
  Activation activation;  // of an x that is made again
  Weights(const Conv2d& v, int M)
      : x{v.H, v.W, v.C, -v.pad_top, -v.pad_left},
        dy{v.P, v.Q, v.K, 0, 0},
        grid(FittingGrid(v.N, v.P, v.Q, M)),
        C(v.C),
        K(v.K),
        c_blocks(divide_up(v.C, block_channels)),
        k_blocks(divide_up(v.K, block_channels)),
        c_width(width(v.C, c_blocks)),
        k_width(width(v.K, k_blocks)),
        frequencies((M + 2) * (M + 2)),
        activation(v.activation) {
    const int64_t bytes = c_blocks * k_blocks * block_sums() * int64_t(sizeof(real));
    parts =
        larger(1, smaller(divide_up(wanted_blocks, c_blocks * k_blocks), smaller(most_sum_bytes / bytes, grid.count / least_part_tiles)));
  }
  static int64_t width(int64_t channels, int64_t blocks) { return divide_up(divide_up(channels, blocks), N_LANES) * N_LANES; }
  INLINE int64_t pairs() const { return k_blocks * c_blocks; }
  INLINE int64_t block_sums() const { return frequencies * k_width * c_width; }  // [frequency][k][c]
};

struct Parts {
  real* sums;  // of each worker's block, or of all: [part][k block][c block], each [frequency][k][c]
  storage* zeros;
  Own<real> own;  // transformed x and dy, [frequency][tile][channel]
  int64_t bytes;
};

Parts layout(const Context& context, const Weights& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.sums = scratch.take<real>((d.parts > 1 ? d.parts * d.pairs() : context.workers) * d.block_sums());
  parts.zeros = scratch.take<storage>(divide_up(larger(d.C, d.K), N_LANES) * N_LANES);
  parts.own = {context, scratch, d.frequencies * 2 * tile_stride + 16};
  parts.bytes = scratch.bytes();
  return parts;
}

// sum[q][z] (+)= sum over tiles of dy[tile][q] x[tile][z]: Q output channels by Z vectors of input channels
template <int Q, int Z>
void sum_over_tiles(const real* dy, int64_t dy_step, const real* x, int64_t x_step, int64_t tiles, real* sums, int64_t pitch, bool more) {
  vec sum[Q][Z];
  if constexpr (short_steps) UNROLL for (int q = 0; q < Q; q++) __builtin_prefetch(sums + (Q + q) * pitch, 1);  // the next tile's
  UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = zero();
  SHORT_STEPS for (int64_t t = 0; t < tiles; t++, dy += dy_step, x += x_step) {
    vec pixel[Z];
    UNROLL for (int z = 0; z < Z; z++) pixel[z] = load(x + z * N_LANES);
    UNROLL for (int q = 0; q < Q; q++) {
      const vec b = broadcast(dy + q);
      UNROLL for (int z = 0; z < Z; z++) sum[q][z] = fma(b, pixel[z], sum[q][z]);
    }
  }
  UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) {
    real* to = sums + q * pitch + z * N_LANES;
    store(to, more ? load(to) + sum[q][z] : sum[q][z]);
  }
}

using SumTile = void (*)(const real*, int64_t, const real*, int64_t, int64_t, real*, int64_t, bool);

template <int Z, int... q>
INLINE SumTile pick(int rows, Lanes<q...>) {
  static constexpr SumTile tiles[] = {sum_over_tiles<q + 1, Z>...};
  return tiles[rows - 1];
}
INLINE SumTile sum_tile(int rows, int vectors) {
  if constexpr (most_vectors == 4) {
    if (vectors == 4) return pick<4>(rows, LanesUpTo<tile_rows(4, 1)>::type{});
  }
  return vectors >= 2 ? pick<2>(rows, LanesUpTo<tile_rows(2, 1)>::type{}) : pick<1>(rows, LanesUpTo<tile_rows(1, 1)>::type{});
}
INLINE int vectors_at_once(int64_t left) { return left >= most_vectors ? most_vectors : left >= 2 ? 2 : 1; }

// One frequency's sums of all pairs of a block's channels, over some tiles.
void add_frequency(const Weights& d, const real* dy, int64_t K, const real* x, int64_t C, int64_t tiles, real* sums, bool more) {
  const int64_t vectors = divide_up(C, N_LANES);
  for (int64_t v = 0; v < vectors;) {
    const int Z = vectors_at_once(vectors - v);
    const int64_t cuts = divide_up(K, tile_rows(Z, 1));
    for (int64_t i = 0; i < cuts; i++) {
      const int64_t k = K * i / cuts, rows = K * (i + 1) / cuts - k;
      sum_tile(int(rows), Z)(dy + k, d.k_width, x + v * N_LANES, d.c_width, tiles, sums + k * d.c_width + v * N_LANES, d.c_width, more);
    }
    v += Z;
  }
}

struct Share {  // the channels of a block
  int64_t first, count;
  INLINE Share(int64_t block, int64_t width, int64_t all) : first(block * width), count(larger(0, smaller(width, all - first))) {}
};
struct Pair {  // of blocks of channels
  Share K, C;
  INLINE Pair(const Weights& d, int64_t pair) : K(pair / d.c_blocks, d.k_width, d.K), C(pair % d.c_blocks, d.c_width, d.C) {}
};

// A block's channels of the tiles [first, end) of a map, asked for a little at each frequency: the pixels of a map, in the order of memory,
// that lie as far from its beginning as these tiles do.
class ChannelsAhead {
 public:
  ChannelsAhead(const Weights& d, const Map& map, const storage* x, const Share& share, int64_t first, int64_t end)
      : pixel_(map.channels), channels_(share.count) {
    const int64_t pixels = d.grid.images() * map.H * map.W;
    const auto pixel = [&](int64_t tile) { return x + share.first + pixels * tile / d.grid.count * pixel_; };
    at_ = pixel(first), end_ = pixel(end);
    step_ = divide_up((end_ - at_) / pixel_, d.frequencies) * pixel_;
  }
  INLINE void step() {
    const storage* const stop = end_ - at_ > step_ ? at_ + step_ : end_;
    for (; at_ < stop; at_ += pixel_)
      for (int64_t c = 0; c < channels_; c += 64 / int64_t(sizeof(storage))) __builtin_prefetch(at_ + c, 0, 2);  // into the L2 cache
  }

 private:
  const storage *at_, *end_;
  int64_t pixel_, channels_, step_;
};

template <int M>
void sum_part(const Weights& d, const Parts& parts, const ConvOperands& o, const Pair& pair, int64_t part, real* x_tiles, real* sums) {
  constexpr int T = Winograd<M>::T;
  const Share &K = pair.K, &C = pair.C;
  const int64_t begin = d.grid.count * part / d.parts, end = d.grid.count * (part + 1) / d.parts;
  real* dy_tiles = x_tiles + d.frequencies * tile_stride;
  storage made[T * T * block_channels];
  const Map made_map = {T, T, block_channels, 0, 0};
  const TilePixels<T> made_pixels(made_map, made - C.first, parts.zeros, {0, 0, 0, true, true});
  for (int64_t first = begin; first < end; first += run_tiles) {
    const SortedTiles<run_tiles> tiles(d.grid, first, smaller(run_tiles, end - first));
    TilePixels<T> x(d.x, o.in, parts.zeros, tiles.at[0]);
    TilePixels<M> dy(d.dy, o.with, parts.zeros, tiles.at[0]);
    TileGrid::Place here = tiles.at[0];
    for (int64_t t = 0; t < tiles.count; t++) {
      const TileGrid::Place& at = tiles.at[smaller(t + 1, tiles.count - 1)];
      const TilePixels<T> next_x(d.x, o.in, parts.zeros, at);
      const TilePixels<M> next_dy(d.dy, o.with, parts.zeros, at);
      if (o.normalized) normalize_tile<T>(d.x, o.in, *o.normalized, d.activation, here, C.first, C.count, made, block_channels);
      transform_pixels<typename Winograd<M>::Input, tile_stride>(o.normalized ? made_pixels : x, next_x, C.first, C.count,
                                                                 x_tiles + t * d.c_width, N_LANES);
      transform_pixels<typename Winograd<M>::OutputGradient, tile_stride>(dy, next_dy, K.first, K.count, dy_tiles + t * d.k_width, N_LANES);
      x = next_x, dy = next_dy, here = at;
    }
    const int64_t soon = smaller(first + run_tiles, end), later = smaller(soon + run_tiles, end);
    ChannelsAhead next_x(d, d.x, o.in, C, soon, later), next_dy(d, d.dy, o.with, K, soon, later);
    for (int f = 0; f < d.frequencies; f++) {
      next_x.step(), next_dy.step();
      const auto [skip, count] = tiles.with(f / T, f % T, T);
      add_frequency(d, dy_tiles + f * tile_stride + skip * d.k_width, K.count, x_tiles + f * tile_stride + skip * d.c_width, C.count, count,
                    sums + f * d.k_width * d.c_width, first > begin);
    }
  }
}

// The parts' sums of output channels [k, end) of a pair's, in order: [frequency][k][c]. Vectors beyond the pair's input channels hold
// nothing.
void add_parts(const Weights& d, const real* sums, const Share& C, int64_t k, int64_t end, real* total) {
  const int64_t part_step = d.pairs() * d.block_sums();
  for (int f = 0; f < d.frequencies; f++)
    for (int64_t row = k; row < end; row++, total += d.c_width)
      for (int64_t c = 0; c < C.count; c += N_LANES) {
        const real* const at = sums + (f * d.k_width + row) * d.c_width + c;
        vec sum = load(at);
        for (int64_t part = 1; part < d.parts; part++) sum += load(at + part * part_step);
        store(total + c, sum);
      }
}

// dw of output channels [k, end) of a pair's: their sums, [frequency][k][c], transformed.
template <int M>
void finish(const Weights& d, const real* sums, int64_t frequency_step, const Pair& pair, int64_t k, int64_t end, real* dw) {
  constexpr int T = Winograd<M>::T;
  for (; k < end; k++, sums += d.c_width)
    for_vectors(0, pair.C.count, [&](int64_t c, auto, auto store_some) {
      transform_tile<typename Winograd<M>::FilterGradient>(
          [&](int i, int j) { return load(sums + (i * T + j) * frequency_step + c); },
          [&](int i, int j, vec v) { store_some(dw + ((pair.K.first + k) * 9 + 3 * i + j) * d.C + pair.C.first + c, v); });
    });
}

template <int M>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, Weights(v, M), nullptr).bytes;
}

template <int M>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  const Weights d(v, M);
  const Parts parts = layout(context, d, scratch);
  for (int64_t c = 0; c < larger(d.C, d.K); c += N_LANES) store(parts.zeros + c, zero());
  parallel(context, d.parts * d.pairs(), [&](int64_t block, int worker) {
    const Pair pair(d, block % d.pairs());
    real* sums = parts.sums + (d.parts > 1 ? block : worker) * d.block_sums();
    sum_part<M>(d, parts, operands, pair, block / d.pairs(), parts.own.of(context, worker), sums);
    if (d.parts == 1) finish<M>(d, sums, d.k_width * d.c_width, pair, 0, pair.K.count, operands.dw);
  });
  if (d.parts == 1) return;
  const int64_t pieces = divide_up(d.k_width, 8);
  parallel(context, d.pairs() * pieces, [&](int64_t block, int worker) {
    const Pair pair(d, block / pieces);
    const int64_t k = block % pieces * 8, end = smaller(k + 8, pair.K.count);
    if (k >= end) return;
    real* const total = parts.own.of(context, worker);
    add_parts(d, parts.sums + block / pieces * d.block_sums(), pair.C, k, end, total);
    finish<M>(d, total, (end - k) * d.c_width, pair, k, end, operands.dw);
  });
}

template <int M>
bool accepts(const Conv2d& v) {
  const FittingGrid grid(v.N, v.P, v.Q, M);
  return winograd_pays(v, grid) && grid.count >= least_tiles;
}

// Each block of output channels would make x anew.
bool normalizes(const Conv2d& v) { return is_cheap(v.activation) && v.K <= block_channels; }

}  // namespace

const ConvAlgorithm winograd4_backward_weight = {"winograd4", accepts<4>, scratch_bytes<4>, run<4>, true, false, false, normalizes};
const ConvAlgorithm winograd2_backward_weight = {"winograd2", accepts<2>, scratch_bytes<2>, run<2>, true, false, false, normalizes};

}  // namespace fastnn::FASTNN_TABLE
