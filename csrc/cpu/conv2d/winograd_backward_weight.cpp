// Winograd, backward to the weight: for each frequency, sums over tiles of transformed dy times transformed x. A unit of work owns a block
// of input channels, several blocks of output channels and a part of the tiles: it transforms a run of tiles of x, and for each of its
// blocks of output channels the same tiles of dy, which it multiplies while both are in its L2 cache. Where there is one part, its sums are
// transformed to dw by the same unit; those of several are added in their order by a second launch.
#include "../own.h"
#include "winograd_normalized.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Channels of a block. With vectors of 256 bits, whose tiles are two of them wide, 32 output channels would be tiles of five rows.
constexpr bool short_vectors = vector_bytes == 32;
constexpr int64_t c_block = 64, k_block = short_vectors ? 64 : 32;
// Tiles of a run: as many as leave the sums of two pairs of blocks, 36 x 64 x 32 each, in the L2 cache; or, where there are so many sums
// that they come from further away anyway, twice as many products for each of them.
constexpr int64_t short_run = 32, most_run = short_vectors ? 32 : 64, most_pairs_with_short_runs = 8, least_tiles = 32;
constexpr int64_t x_stride = most_run * c_block + N_LANES, dy_stride = most_run * k_block + N_LANES;  // of a frequency: no powers of two
constexpr int64_t wanted_pairs = 16, least_part_tiles = 128, most_sum_bytes = 32 << 20;
constexpr int64_t most_k_blocks = 8, units_of_worker = 2;  // of a unit; that are wanted

struct Weights {
  Map x, dy;
  TileGrid grid;
  int64_t C, K, c_blocks, k_blocks;
  int64_t parts, run;        // of the tiles
  int64_t c_width, k_width;  // channels of a block, whole vectors
  int64_t unit_k_blocks;     // no sum depends on it
  int frequencies;
  Activation activation;  // of an x that is made again
  Weights(const Context& context, const Conv2d& v, int M)
      : x{v.H, v.W, v.C, -v.pad_top, -v.pad_left},
        dy{v.P, v.Q, v.K, 0, 0},
        grid(FittingGrid(v.N, v.P, v.Q, M)),
        C(v.C),
        K(v.K),
        c_blocks(divide_up(v.C, c_block)),
        k_blocks(divide_up(v.K, k_block)),
        run(pairs() > most_pairs_with_short_runs ? most_run : short_run),
        c_width(width(v.C, c_blocks)),
        k_width(width(v.K, k_blocks)),
        frequencies((M + 2) * (M + 2)),
        activation(v.activation) {
    const int64_t most_parts = smaller(most_sum_bytes / (pairs() * block_sums() * int64_t(sizeof(real))), grid.count / least_part_tiles);
    parts = larger(1, smaller(divide_up(wanted_pairs, pairs()), most_parts));
    unit_k_blocks = larger(1, smaller(smaller(k_blocks, most_k_blocks), parts * pairs() / (units_of_worker * context.workers)));
  }
  static int64_t width(int64_t channels, int64_t blocks) { return divide_up(divide_up(channels, blocks), N_LANES) * N_LANES; }
  INLINE int64_t pairs() const { return k_blocks * c_blocks; }
  INLINE int64_t block_sums() const { return frequencies * k_width * c_width; }  // of a pair: [frequency][k][c]
  INLINE int64_t units_of_part() const { return c_blocks * divide_up(k_blocks, unit_k_blocks); }
  // Where a part of the tiles begins, or a run of it
  INLINE int64_t tile(int64_t part) const { return grid.count * part / parts; }
  INLINE int64_t runs(int64_t part) const { return divide_up(tile(part + 1) - tile(part), run); }
  INLINE int64_t tile(int64_t part, int64_t i) const {
    const int64_t begin = tile(part), count = tile(part + 1) - begin;
    return begin + smaller(count, count * i / runs(part));
  }
};

struct Unit {
  int64_t part, c, k, k_end;  // blocks of channels
  Unit(const Weights& d, int64_t unit) : part(unit / d.units_of_part()), c(unit % d.c_blocks) {
    k = unit % d.units_of_part() / d.c_blocks * d.unit_k_blocks, k_end = smaller(d.k_blocks, k + d.unit_k_blocks);
  }
};

struct Parts {
  real* sums;  // of pairs of blocks, each [frequency][k][c]: [worker][k block of a unit], or of several parts [part][k block][c block]
  storage* zeros;
  Own<real> own;  // transformed x and dy, [frequency][tile][channel]
  int64_t bytes;
};

Parts layout(const Context& context, const Weights& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.sums = scratch.take<real>((d.parts > 1 ? d.parts * d.pairs() : context.workers * d.unit_k_blocks) * d.block_sums());
  parts.zeros = scratch.take<storage>(divide_up(larger(d.C, d.K), N_LANES) * N_LANES);
  parts.own = {context, scratch, d.frequencies * (x_stride + dy_stride) + 16};
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
INLINE Share c_share(const Weights& d, int64_t block) { return {block, d.c_width, d.C}; }
INLINE Share k_share(const Weights& d, int64_t block) { return {block, d.k_width, d.K}; }

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
void finish(const Weights& d, const real* sums, int64_t frequency_step, const Share& C, const Share& K, int64_t k, int64_t end, real* dw) {
  constexpr int T = Winograd<M>::T;
  for (; k < end; k++, sums += d.c_width)
    for_vectors(0, C.count, [&](int64_t c, auto, auto store_some) {
      transform_tile<typename Winograd<M>::FilterGradient>(
          [&](int i, int j) { return load(sums + (i * T + j) * frequency_step + c); },
          [&](int i, int j, vec v) { store_some(dw + ((K.first + k) * 9 + 3 * i + j) * d.C + C.first + c, v); });
    });
}

// The tiles' channels, `width` of a block, transformed
template <class F, int64_t stride>
INLINE void transform_run(const SortedTiles<most_run>& tiles, const Map& map, const storage* x, const storage* zeros, const Share& channels,
                          int64_t width, real* to) {
  TilePixels<F::in> pixels(map, x, zeros, tiles.at[0]);
  for (int64_t t = 0; t < tiles.count; t++) {
    const TilePixels<F::in> next(map, x, zeros, tiles.at[smaller(t + 1, tiles.count - 1)]);
    transform_pixels<F, stride>(pixels, next, channels.first, channels.count, to + t * width, N_LANES);
    pixels = next;
  }
}

// The same of x that is made of z on the way
template <class F>
INLINE void transform_normalized(const Weights& d, const SortedTiles<most_run>& tiles, const ConvOperands& o, const storage* zeros,
                                 const Share& C, real* to) {
  storage made[F::in * F::in * c_block];
  const TilePixels<F::in> pixels({F::in, F::in, c_block, 0, 0}, made - C.first, zeros, {0, 0, 0, true, true});
  for (int64_t t = 0; t < tiles.count; t++) {
    normalize_tile<F::in>(d.x, o.in, *o.normalized, d.activation, tiles.at[t], C.first, C.count, made, c_block);
    transform_pixels<F, x_stride>(pixels, pixels, C.first, C.count, to + t * d.c_width, N_LANES);
  }
}

template <int M>
void run_unit(const Weights& d, const Parts& parts, const ConvOperands& o, const Unit& unit, real* x_tiles, real* first_sums,
              int64_t sums_step) {
  constexpr int T = Winograd<M>::T;
  const Share C = c_share(d, unit.c);
  real* const dy_tiles = x_tiles + d.frequencies * x_stride;
  const int64_t runs = d.runs(unit.part);
  for (int64_t run = 0; run < runs; run++) {
    const int64_t first = d.tile(unit.part, run), soon = d.tile(unit.part, run + 1), later = d.tile(unit.part, run + 2);
    const SortedTiles<most_run> tiles(d.grid, first, soon - first);
    using Input = typename Winograd<M>::Input;
    if (o.normalized)
      transform_normalized<Input>(d, tiles, o, parts.zeros, C, x_tiles);
    else
      transform_run<Input, x_stride>(tiles, d.x, o.in, parts.zeros, C, d.c_width, x_tiles);
    for (int64_t k = unit.k; k < unit.k_end; k++) {
      const Share K = k_share(d, k);
      transform_run<typename Winograd<M>::OutputGradient, dy_stride>(tiles, d.dy, o.with, parts.zeros, K, d.k_width, dy_tiles);
      const bool last = k + 1 == unit.k_end;
      ChannelsAhead next_x(d, d.x, o.in, C, last ? soon : later, later);
      ChannelsAhead next_dy(d, d.dy, o.with, k_share(d, last ? unit.k : k + 1), last ? soon : first, last ? later : soon);
      real* const sums = first_sums + (k - unit.k) * sums_step;
      for (int f = 0; f < d.frequencies; f++) {
        next_x.step(), next_dy.step();
        const auto [skip, count] = tiles.with(f / T, f % T, T);
        add_frequency(d, dy_tiles + f * dy_stride + skip * d.k_width, K.count, x_tiles + f * x_stride + skip * d.c_width, C.count, count,
                      sums + f * d.k_width * d.c_width, run > 0);
      }
      if (d.parts == 1 && run + 1 == runs) finish<M>(d, sums, d.k_width * d.c_width, C, K, 0, K.count, o.dw);
    }
  }
}

template <int M>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, Weights(context, v, M), nullptr).bytes;
}

template <int M>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  const Weights d(context, v, M);
  const Parts parts = layout(context, d, scratch);
  for (int64_t c = 0; c < larger(d.C, d.K); c += N_LANES) store(parts.zeros + c, zero());
  parallel(context, d.parts * d.units_of_part(), [&](int64_t number, int worker) {
    const Unit unit(d, number);
    const int64_t first = d.parts > 1 ? unit.part * d.pairs() + unit.k * d.c_blocks + unit.c : worker * d.unit_k_blocks;
    run_unit<M>(d, parts, operands, unit, parts.own.of(context, worker), parts.sums + first * d.block_sums(),
                (d.parts > 1 ? d.c_blocks : 1) * d.block_sums());
  });
  if (d.parts == 1) return;
  const int64_t pieces = divide_up(d.k_width, 8);
  parallel(context, d.pairs() * pieces, [&](int64_t block, int worker) {
    const int64_t pair = block / pieces, k = block % pieces * 8;
    const Share K = k_share(d, pair / d.c_blocks), C = c_share(d, pair % d.c_blocks);
    const int64_t end = smaller(k + 8, K.count);
    if (k >= end) return;
    real* const total = parts.own.of(context, worker);
    add_parts(d, parts.sums + pair * d.block_sums(), C, k, end, total);
    finish<M>(d, total, (end - k) * d.c_width, C, K, k, end, operands.dw);
  });
}

template <int M>
bool accepts(const Conv2d& v) {
  const FittingGrid grid(v.N, v.P, v.Q, M);
  return winograd_pays(v, grid) && grid.count >= least_tiles;
}

// Each unit would make x anew.
bool normalizes(const Conv2d& v) { return is_cheap(v.activation) && v.K <= c_block; }

}  // namespace

const ConvAlgorithm winograd4_backward_weight = {"winograd4", accepts<4>, scratch_bytes<4>, run<4>, true, false, false, normalizes};
const ConvAlgorithm winograd2_backward_weight = {"winograd2", accepts<2>, scratch_bytes<2>, run<2>, true, false, false, normalizes};

}  // namespace fastnn::FASTNN_TABLE
