// What Winograd's weight gradients share: for each frequency, sums over tiles of transformed dy times transformed x. A unit of work owns a
// block of input channels, several blocks of output channels and a part of the tiles: it transforms a run of tiles of x, and for each of
// its blocks of output channels the same tiles of dy, which it multiplies while both are in its L2 cache. Where there is one part, its sums
// are transformed to dw by the same unit; those of several are added in their order by a second launch.
//
// A Form says what is transformed to what:
//   most_run                 tiles that are transformed at a time, at most
//   M, T                     tiles of M x M of dy, T x T frequencies, of which smaller tiles lack the last row or column
//   planes, dy_planes        of transformed x, and of sums; of transformed dy
//   frequency(plane)         its row and column, and the plane of dy that it is multiplied by
//   OutputGradient           of dy
//   transform_x(...)         a run of tiles
//   finish(load, store)      the sums of all planes to nine taps
#pragma once
#include "../own.h"
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {

// A run of tiles of one plane: `count` channels, `width` apart from a tile to the next
struct PlaneOfTiles {
  const real* at;
  int64_t width, count;
};
// sums[k][c] (+)= the sum over tiles of dy[tile][k] x[tile][c]
void add_products(const PlaneOfTiles& dy, const PlaneOfTiles& x, int64_t tiles, real* sums, bool more);

namespace {

// Channels of a block. With vectors of 256 bits, whose tiles are two of them wide, 32 output channels would be tiles of five rows.
constexpr bool short_vectors = vector_bytes == 32;
constexpr int64_t c_block = 64, k_block = short_vectors ? 64 : 32;
// Tiles of a run: as many as leave the sums of two pairs of blocks, 36 x 64 x 32 each, in the L2 cache; or, where there are so many sums
// that they come from further away anyway, twice as many products for each of them.
constexpr int64_t short_run = 32, long_run = short_vectors ? 32 : 64, most_pairs_with_short_runs = 8, least_tiles = 32;
constexpr int64_t wanted_pairs = 16, least_part_tiles = 128, most_sum_bytes = 32 << 20;
constexpr int64_t most_unit_bytes = 3 << 20, units_of_worker = 2;  // of a unit's sums; units wanted for each worker

// From a plane to the next: constants, so that an address is a register and a constant; no powers of two
template <class Form>
constexpr int64_t x_stride = Form::most_run * c_block + N_LANES;
template <class Form>
constexpr int64_t dy_stride = Form::most_run * k_block + N_LANES;

struct Frequency {
  int row, column, dy_plane;
};

struct Weights {
  Map x, dy;
  TileGrid grid;
  int64_t C, K, c_blocks, k_blocks;
  int64_t parts, run_tiles;  // of the tiles; in a run
  int64_t c_width, k_width;  // channels of a block, whole vectors
  int64_t unit_k_blocks;     // no sum depends on it
  int planes;                // of sums, and of transformed x
  Activation activation;     // of an x that is made again
  template <class Form>
  Weights(const Context& context, const Conv2d& v, Form)
      : x{v.H, v.W, v.C, -v.pad_top, -v.pad_left},
        dy{v.P, v.Q, v.K, 0, 0},
        grid(FittingGrid(v.N, v.P, v.Q, Form::M)),
        C(v.C),
        K(v.K),
        c_blocks(divide_up(v.C, c_block)),
        k_blocks(divide_up(v.K, k_block)),
        run_tiles(pairs() > most_pairs_with_short_runs ? Form::most_run : short_run),
        c_width(width(v.C, c_blocks)),
        k_width(width(v.K, k_blocks)),
        planes(Form::planes),
        activation(v.activation) {
    const int64_t most_parts = smaller(most_sum_bytes / (pairs() * block_sums() * int64_t(sizeof(real))), grid.count / least_part_tiles);
    parts = larger(1, smaller(divide_up(wanted_pairs, pairs()), most_parts));
    const int64_t most_blocks = smaller(k_blocks, most_unit_bytes / (block_sums() * int64_t(sizeof(real))));
    unit_k_blocks = larger(1, smaller(most_blocks, parts * pairs() / (units_of_worker * context.workers)));
    unit_k_blocks = divide_up(k_blocks, divide_up(k_blocks, unit_k_blocks));  // equal ones
  }
  static int64_t width(int64_t channels, int64_t blocks) { return divide_up(divide_up(channels, blocks), N_LANES) * N_LANES; }
  INLINE int64_t pairs() const { return k_blocks * c_blocks; }
  INLINE int64_t block_sums() const { return planes * k_width * c_width; }    // of a pair: [plane][k][c]
  INLINE int64_t waiting() const { return runs(0) > 1 ? unit_k_blocks : 1; }  // of a unit's pairs, whose sums wait for the next run
  INLINE int64_t units_of_part() const { return c_blocks * divide_up(k_blocks, unit_k_blocks); }
  // Where a part of the tiles begins, or a run of it
  INLINE int64_t tile(int64_t part) const { return grid.count * part / parts; }
  INLINE int64_t runs(int64_t part) const { return divide_up(tile(part + 1) - tile(part), run_tiles); }
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
  real* sums;  // of pairs of blocks, each [plane][k][c]: [worker][k block that waits], or of several parts [part][k block][c block]
  storage* zeros;
  Own<real> own;  // transformed x and dy, [plane][tile][channel]
  int64_t bytes;
};

template <class Form>
Parts layout(const Context& context, const Weights& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.sums = scratch.take<real>((d.parts > 1 ? d.parts * d.pairs() : context.workers * d.waiting()) * d.block_sums());
  parts.zeros = scratch.take<storage>(divide_up(larger(d.C, d.K), N_LANES) * N_LANES);
  parts.own = {context, scratch, Form::planes * x_stride<Form> + Form::dy_planes * dy_stride<Form> + 16};
  parts.bytes = scratch.bytes();
  return parts;
}

struct Share {  // the channels of a block
  int64_t first, count;
  INLINE Share(int64_t block, int64_t width, int64_t all) : first(block * width), count(larger(0, smaller(width, all - first))) {}
};
struct Pair {  // of blocks of channels
  Share K, C;
  INLINE Pair(const Weights& d, int64_t k, int64_t c) : K(k, d.k_width, d.K), C(c, d.c_width, d.C) {}
};

// A block's channels of the tiles [first, end) of a map, asked for a little at each plane: the pixels of a map, in the order of memory,
// that lie as far from its beginning as these tiles do.
class ChannelsAhead {
 public:
  ChannelsAhead(const Weights& d, const Map& map, const storage* x, const Share& share, int64_t first, int64_t end)
      : pixel_(map.channels), channels_(share.count) {
    const int64_t pixels = d.grid.images() * map.H * map.W;
    const auto pixel = [&](int64_t tile) { return x + share.first + pixels * tile / d.grid.count * pixel_; };
    at_ = pixel(first), end_ = pixel(end);
    step_ = divide_up((end_ - at_) / pixel_, d.planes) * pixel_;
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

// The tiles' channels, `width` of a block, transformed
template <class F, int64_t stride, int most_run>
INLINE void transform_run(const SortedTiles<most_run>& tiles, const Map& map, const storage* x, const storage* zeros, const Share& channels,
                          int64_t width, real* to) {
  TilePixels<F::in> pixels(map, x, zeros, tiles.at[0]);
  for (int64_t t = 0; t < tiles.count; t++) {
    const TilePixels<F::in> next(map, x, zeros, tiles.at[smaller(t + 1, tiles.count - 1)]);
    transform_pixels<F, stride>(pixels, next, channels.first, channels.count, to + t * width, N_LANES);
    pixels = next;
  }
}

// The parts' sums of output channels [k, end) of a pair's, in order: [plane][k][c]. Vectors beyond the pair's input channels hold
// nothing.
void add_parts(const Weights& d, const real* sums, const Share& C, int64_t k, int64_t end, real* total) {
  const int64_t part_step = d.pairs() * d.block_sums();
  for (int plane = 0; plane < d.planes; plane++)
    for (int64_t row = k; row < end; row++, total += d.c_width)
      for (int64_t c = 0; c < C.count; c += N_LANES) {
        const real* const at = sums + (plane * d.k_width + row) * d.c_width + c;
        vec sum = load(at);
        for (int64_t part = 1; part < d.parts; part++) sum += load(at + part * part_step);
        store(total + c, sum);
      }
}

// dw of output channels [k, end) of a pair's: their sums, transformed.
template <class Form>
void finish(const Weights& d, const real* sums, int64_t plane_step, const Pair& pair, int64_t k, int64_t end, real* dw) {
  for (; k < end; k++, sums += d.c_width)
    for_vectors(0, pair.C.count, [&](int64_t c, auto, auto store_some) {
      Form::finish([&](int plane) { return load(sums + plane * plane_step + c); },
                   [&](int tap, vec v) { store_some(dw + ((pair.K.first + k) * 9 + tap) * d.C + pair.C.first + c, v); });
    });
}

template <class Form>
void run_unit(const Weights& d, const Parts& parts, const ConvOperands& o, const Unit& unit, real* x_tiles, real* first_sums,
              int64_t sums_step) {
  const Share C = Pair(d, unit.k, unit.c).C;
  real* const dy_tiles = x_tiles + Form::planes * x_stride<Form>;
  const int64_t runs = d.runs(unit.part);
  for (int64_t run = 0; run < runs; run++) {
    const int64_t first = d.tile(unit.part, run), soon = d.tile(unit.part, run + 1), later = d.tile(unit.part, run + 2);
    const SortedTiles<Form::most_run> tiles(d.grid, {first, soon - first});
    Form::transform_x(d, tiles, o, parts.zeros, C, x_tiles);
    for (int64_t k = unit.k; k < unit.k_end; k++) {
      const Pair pair(d, k, unit.c);
      const Share& K = pair.K;
      transform_run<typename Form::OutputGradient, dy_stride<Form>>(tiles, d.dy, o.with, parts.zeros, K, d.k_width, dy_tiles);
      const bool last = k + 1 == unit.k_end;
      ChannelsAhead next_x(d, d.x, o.in, C, last ? soon : later, later);
      ChannelsAhead next_dy(d, d.dy, o.with, Pair(d, last ? unit.k : k + 1, unit.c).K, last ? soon : first, last ? later : soon);
      real* const sums = first_sums + (k - unit.k) * sums_step;
      for (int plane = 0; plane < Form::planes; plane++) {
        next_x.step(), next_dy.step();
        const Frequency at = Form::frequency(plane);
        const auto [skip, count] = tiles.with(at.row, at.column, Form::T);
        add_products({dy_tiles + at.dy_plane * dy_stride<Form> + skip * d.k_width, d.k_width, K.count},
                     {x_tiles + plane * x_stride<Form> + skip * d.c_width, d.c_width, C.count}, count, sums + plane * d.k_width * d.c_width,
                     run > 0);
      }
      if (d.parts == 1 && run + 1 == runs) finish<Form>(d, sums, d.k_width * d.c_width, pair, 0, K.count, o.dw);
    }
  }
}

template <class Form>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout<Form>(context, Weights(context, v, Form{}), nullptr).bytes;
}

template <class Form>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  const Weights d(context, v, Form{});
  const Parts parts = layout<Form>(context, d, scratch);
  for (int64_t c = 0; c < larger(d.C, d.K); c += N_LANES) store(parts.zeros + c, zero());
  parallel(context, d.parts * d.units_of_part(), [&](int64_t number, int worker) {
    const Unit unit(d, number);
    const int64_t first = d.parts > 1 ? unit.part * d.pairs() + unit.k * d.c_blocks + unit.c : worker * d.waiting();
    run_unit<Form>(d, parts, operands, unit, parts.own.of(context, worker), parts.sums + first * d.block_sums(),
                   (d.parts > 1 ? d.c_blocks : d.waiting() > 1) * d.block_sums());
  });
  if (d.parts == 1) return;
  const int64_t pieces = divide_up(d.k_width, 8);
  parallel(context, d.pairs() * pieces, [&](int64_t block, int worker) {
    const int64_t number = block / pieces, k = block % pieces * 8;
    const Pair pair(d, number / d.c_blocks, number % d.c_blocks);
    const int64_t end = smaller(k + 8, pair.K.count);
    if (k >= end) return;
    real* const total = parts.own.of(context, worker);
    add_parts(d, parts.sums + number * d.block_sums(), pair.C, k, end, total);
    finish<Form>(d, total, (end - k) * d.c_width, pair, k, end, operands.dw);
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
