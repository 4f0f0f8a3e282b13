// Backward to the weight: dw[k][r][s][c] = sum over pixels of dy[k] x[c]. A tile holds some taps x some output channels x one vector of
// input channels in registers, and walks over the pixels of padded copies of x and dy (padded.h). Three neighbouring taps of a 3-wide
// window of stride 1 ("taps3") slide along the row: each pixel of x is loaded once for all three.
#include "../gemm.h"
#include "../own.h"
#include "ahead.h"
#include "algorithm.h"
#include "partial_sums.h"
#if defined(FASTNN_TILES)
#include "../../amx/first_layers.h"
#endif

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int plain_taps = 3;                                               // of a tile, at most
constexpr int tile_k = vector_bytes == 64 ? 8 : N_LANES < 4 ? N_LANES : 4;  // output channels of such a tile
constexpr int most_window_rows = registers == 32 ? 2 : 1;                   // of three taps; two rows go with half as many output channels
constexpr int most_tile_taps = 3 * most_window_rows;
constexpr int64_t row_pixels = on_tiles ? 16 : 1;  // a row is a multiple of, zeros behind
constexpr int64_t most_chunk_bytes = 256 * 1024;   // one plane of x and one of dy
constexpr int64_t most_part_bytes = 5 << 20;       // all partial sums
constexpr int64_t wanted_blocks = on_tiles ? 8 : 16, least_block_work = 512 * 1024;

struct Geometry {
  PaddedInput x, dy;
  Chunks chunks;
  int64_t C, K, taps;         // of one group
  int64_t split_k, splits;    // output channels of a block
  int64_t tile_taps, tile_k;  // of a tile, at most
  bool taps3;
  bool copy_dy;  // into planes; else read where it lies
  int64_t weights() const { return K * taps * C; }
};

// AMX, few channels: one tap of a whole window's numbers (`windows`)
Geometry geometry(const Conv2d& v, bool taps3, bool windows = false) {
  Geometry d;
  d.taps3 = taps3;
  d.C = windows ? v.R * v.S * v.C : v.C / v.G, d.K = v.K / v.G, d.taps = windows ? 1 : v.R * v.S;
  const int64_t reach_h = (v.R - 1) * v.dilation_h + 1, reach_w = (v.S - 1) * v.dilation_w + 1, N = divide_up(v.N, together),
                images = taps3 ? 1 : images_to_interleave(N, v.Q, 28, 8, on_tiles && d.taps > 1),  // rows of at least 28 pixels
      columns = divide_up(v.Q * images, row_pixels) * row_pixels / images;
  const int64_t work = v.N * v.P * v.Q * v.G * d.weights(), wanted = larger(1, smaller(wanted_blocks, work / least_block_work));
  d.x = {v.H,        v.W,        v.C,     d.C,     images,  -v.pad_top,  -v.pad_left, (columns - 1) * v.stride_w + reach_w,
         v.stride_h, v.stride_w, reach_h, reach_w, N_LANES, together > 1};
  if (windows) {
    d.x = {v.H, v.W, v.C, d.C, images, -v.pad_top, -v.pad_left, columns, 1, 1, 1, 1, N_LANES, true};
    d.x.window = {v.R, v.S, v.stride_h, v.stride_w, v.Q}, d.x.pitch = int(d.x.planes()) * N_LANES;
  }
  const int64_t weight_bytes = v.G * d.weights() * int64_t(sizeof(real));
  const int64_t most_parts = larger(1, smaller(divide_up(wanted, v.G), most_part_bytes / weight_bytes));
  d.dy = {v.P, v.Q, v.K, d.K, images, 0, 0, columns, 1, 1, 1, 1, N_LANES, together > 1};
  const auto plane_rows = [&](int64_t rows) { return (rows - 1) * d.x.step_h + (windows ? 1 : reach_h); };
  d.chunks.choose(N / images, v.P, most_chunk_bytes, most_parts, [&](int64_t rows) {
    return terms * (d.x.plane_stride(plane_rows(rows)) + d.dy.plane_stride(rows)) * int64_t(sizeof(operand));
  });
  d.chunks.plane_rows = plane_rows(d.chunks.band_rows);
  const int64_t vectors = divide_up(d.K, N_LANES), splits = larger(1, smaller(divide_up(vectors, 2), wanted / (d.chunks.parts * v.G)));
  d.split_k = divide_up(vectors, splits) * N_LANES;
  d.splits = divide_up(d.K, d.split_k);
  d.copy_dy = images > 1 || d.K != N_LANES || narrow || together > 1;
  d.tile_taps = !on_tiles ? plain_taps : d.K > 16 ? 2 : 6, d.tile_k = !on_tiles ? tile_k : d.K > 16 ? 32 : 16;
  return d;
}

struct Parts {
  real* partial;       // [part][group][K][tap][C]
  operand* chunks;     // planes of x and of dy of one chunk for each part of a group (`shared`)
  Own<operand> chunk;  // or for each worker
  int64_t x_size, dy_size, slot_size, bytes;
};

// Blocks of different output channels read the same planes of x: copied once, then, by all of them.
INLINE bool shared(const Geometry& d) { return d.splits > 1; }

Parts layout(const Context& context, const Conv2d& v, const Geometry& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.partial = scratch.take<real>(d.chunks.parts > 1 ? d.chunks.parts * v.G * d.weights() : 0);
  parts.x_size = d.x.size(d.chunks.plane_rows);
  parts.dy_size = d.copy_dy ? d.dy.size(d.chunks.band_rows) : 0;
  parts.slot_size = divide_up((parts.x_size + parts.dy_size) * d.chunks.groups * terms, 32) * 32;
  parts.chunks = shared(d) ? scratch.take<operand>(parts.slot_size * v.G * d.chunks.parts) : nullptr;
  if (!shared(d)) parts.chunk = {context, scratch, parts.slot_size};
  parts.bytes = scratch.bytes();
  return parts;
}

// The pixels a tile walks over: `groups` of images, `rows`, `length` pixels of a row.
struct Walk {
  int64_t groups, rows, length;
  int64_t x_group, x_row;
  int64_t dy_group, dy_row, dy_pixel, dy_plane, x_pixel;
  Surroundings* next;  // of the pixels after these, asked for a little at each row
};

// One tap and vector of input channels: where its pixels begin, and where its sum goes.
struct Tap {
  const operand* x;
  real* dw;
  int lanes;
};

template <int taps, int K>
INLINE void write_sums(const vec (&sum)[taps][K], const Tap* tap, int k_count, int64_t k_stride, bool accumulate) {
  UNROLL for (int t = 0; t < taps; t++) UNROLL for (int k = 0; k < K; k++) {
    if (k >= k_count) continue;
    real* to = tap[t].dw + k * k_stride;
    store_n(to, tap[t].lanes, accumulate ? load_n(to, tap[t].lanes) + sum[t][k] : sum[t][k]);
  }
}

using WeightTile = void (*)(const Walk&, const Tap*, const operand* dy, int k_count, int64_t k_stride, bool accumulate);

// dw[tap][k] = or += sum over pixels of dy[k] x[tap], for K output channels. The first `k_count` are written, k_stride apart. Taps are
// `rows` rows of `columns` neighbours, along which the pixels slide.
#if !defined(FASTNN_TILES)
void turn_planes(operand*, int64_t, int64_t, int64_t) {}
template <int rows, int columns, int K>
void weight_tile(const Walk& walk, const Tap* tap, const operand* dy, int k_count, int64_t k_stride, bool accumulate) {
  vec sum[rows * columns][K];
  UNROLL for (int t = 0; t < rows * columns; t++) UNROLL for (int k = 0; k < K; k++) sum[t][k] = zero();
  for (int64_t g = 0; g < walk.groups; g++)
    for (int64_t r = 0; r < walk.rows; r++) {
      walk.next->step();
      const operand* x[rows];
      vec pixel[rows][columns];
      UNROLL for (int i = 0; i < rows; i++) {
        x[i] = tap[columns * i].x + g * walk.x_group + r * walk.x_row;
        UNROLL for (int s = 1; s < columns; s++, x[i] += N_LANES) pixel[i][s - 1] = load(x[i]);
      }
      const operand* d = dy + g * walk.dy_group + r * walk.dy_row;
      const int64_t length = walk.length, dy_pixel = walk.dy_pixel;
      SHORT_STEPS for (int64_t j = 0; j < length; j++, d += dy_pixel) {
        UNROLL for (int i = 0; i < rows; i++) pixel[i][columns - 1] = load(x[i] + j * N_LANES);
        UNROLL for (int k = 0; k < K; k++) {
          const vec b = broadcast(d + k);
          UNROLL for (int t = 0; t < rows * columns; t++) sum[t][k] = multiply(b, pixel[t / columns][t % columns], sum[t][k]);
        }
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int s = 1; s < columns; s++) pixel[i][s - 1] = pixel[i][s];
      }
    }
  write_sums(sum, tap, k_count, k_stride, accumulate);
}

WeightTile weight_tile_of(bool taps3, int64_t taps, int64_t) {
  if constexpr (most_tile_taps == 6) {
    if (taps == 6) return weight_tile<2, 3, tile_k / 2>;
  }
  if (taps3) return weight_tile<1, 3, tile_k>;
  return taps == 3 ? weight_tile<3, 1, tile_k> : taps == 2 ? weight_tile<2, 1, tile_k> : weight_tile<1, 1, tile_k>;
}
#else
#include "../../amx/weight_tile.h"
#endif

// Which taps a tile holds. The taps of all planes of x are numbered plane by plane; the rows of a taps3 window go singly or in pairs,
// other taps in even threes.
struct Span {
  int64_t first, count;
};
int64_t tile_count(const Geometry& d) {
  return d.taps3 ? d.x.planes() * divide_up(d.taps, most_tile_taps) : divide_up(d.x.planes() * d.taps, d.tile_taps);
}
Span tile_span(const Geometry& d, int64_t tile) {
  if (d.taps3) {
    const int64_t of_plane = divide_up(d.taps, most_tile_taps), place = tile % of_plane * most_tile_taps;
    return {tile / of_plane * d.taps + place, smaller(most_tile_taps, d.taps - place)};
  }
  const int64_t all = d.x.planes() * d.taps, tiles = tile_count(d), first = all * tile / tiles;
  return {first, all * (tile + 1) / tiles - first};
}

// One chunk into its partial sum, for output channels [k0, k1). `x` are its planes; dy_at(k) is channel k of the first pixel of dy.
template <class At>
void add_chunk(const Geometry& d, const Conv2d& v, const Walk& walk, const operand* x, At dy_at, int64_t k0, int64_t k1, real* dw,
               bool accumulate) {
  const int64_t plane_stride = d.x.plane_stride(d.chunks.plane_rows), tiles = tile_count(d), k_stride = d.taps * d.C;
  const auto plane_of = [&](int64_t tile) { return tile_span(d, tile).first / d.taps; };
  for (int64_t begin = 0, end; begin < tiles; begin = end) {  // all tiles that begin in one plane of x, so that it stays in the cache
    for (end = begin + 1; end < tiles && plane_of(end) == plane_of(begin);) end++;
    for (int64_t k_block = k0; k_block < k1; k_block += d.tile_k)
      for (int64_t tile = begin; tile < end; tile++) {
        const Span span = tile_span(d, tile);
        Tap tap[most_tile_taps];
        for (int64_t t = 0; t < span.count; t++) {
          const int64_t plane = (span.first + t) / d.taps, c = plane * N_LANES, place = (span.first + t) % d.taps, r = place / v.S,
                        s = place % v.S;
          tap[t] = {x + plane * plane_stride + d.x.offset(r * v.dilation_h, s * v.dilation_w), dw + k_block * k_stride + place * d.C + c,
                    int(smaller(N_LANES, d.C - c))};
        }
        const int64_t step = d.taps3 && span.count > 3 ? d.tile_k / 2 : d.tile_k;
        for (int64_t k = k_block; k < smaller(k1, k_block + d.tile_k); k += step) {
          weight_tile_of(d.taps3, span.count, k1 - k)(walk, tap, dy_at(k), int(smaller(step, k1 - k)), k_stride, accumulate);
          for (int64_t t = 0; t < span.count; t++) tap[t].dw += step * k_stride;
        }
      }
  }
}

// x and dy of the next chunk, where the tiles need all of their lines
Surroundings next_chunk(const Geometry& d, const Conv2d& v, const ConvOperands& o, int64_t chunk, int64_t rows) {
  if (v.G > 1 || d.splits > 1 || d.x.used_h < d.x.step_h || d.x.used_w < d.x.step_w) return {};
  const int64_t steps = tile_count(d) * divide_up(d.K, d.tile_k) * d.chunks.groups * rows;
  return {Ahead::of_block(o.in, v.N * v.H * v.W * v.C, chunk + 1, d.chunks.count, steps),
          Ahead::of_block(o.with, v.N * v.P * v.Q * v.K, chunk + 1, d.chunks.count, steps)};
}

// Where a chunk lies, and its copies
struct Chunk {
  int64_t number, group, image, p, rows;
  operand *x, *dy;
};
Chunk chunk_of(const Geometry& d, const Conv2d& v, const Parts& parts, int64_t number, int64_t group, operand* copies) {
  Chunk c;
  c.number = number, c.group = group, c.image = number / d.chunks.bands * d.chunks.groups * d.x.images * together;
  c.p = number % d.chunks.bands * d.chunks.band_rows, c.rows = smaller(d.chunks.band_rows, v.P - c.p);
  c.x = copies, c.dy = c.x + parts.x_size * d.chunks.groups * terms;
  return c;
}

// One of `pieces` of the planes, from plane `first` on
PaddedInput planes_of(const PaddedInput& in, int64_t piece, int64_t pieces, int64_t* first) {
  const int64_t planes = in.window.rows ? 1 : in.planes(), end = planes * (piece + 1) / pieces;
  PaddedInput own = in;
  *first = planes * piece / pieces;
  own.channels = end == *first ? 0 : end == planes ? in.channels - *first * N_LANES : (end - *first) * N_LANES;
  return own;
}

void copy_chunk(const Geometry& d, const Conv2d& v, const Parts& parts, const ConvOperands& o, const Chunk& chunk, int64_t piece) {
  int64_t x_first, dy_first;
  const PaddedInput x = planes_of(d.x, piece, d.splits, &x_first), dy = planes_of(d.dy, piece, d.splits, &dy_first);
  const int64_t x_stride = x.plane_stride(d.chunks.plane_rows), dy_stride = dy.plane_stride(d.chunks.band_rows);
  for (int64_t i = 0; i < d.chunks.groups * terms; i++) {
    const int64_t image = chunk.image + i / terms * x.images * together, images_left = v.N - image, term = i % terms;
    const storage* const x_from = o.in + image * v.H * v.W * v.C + chunk.group * d.C + x_first * N_LANES;
    const storage* const dy_from = o.with + image * v.P * v.Q * v.K + chunk.group * d.K + dy_first * N_LANES;
    if (x.channels)
      copy_rows(x, x_from, chunk.p * x.step_h, (chunk.rows - 1) * x.step_h + x.used_h, chunk.x + i * parts.x_size + x_first * x_stride,
                x_stride, b_piece[term], images_left);
    if (!d.copy_dy || !dy.channels) continue;
    operand* const to = chunk.dy + i * parts.dy_size + dy_first * dy_stride;
    copy_rows(dy, dy_from, chunk.p, chunk.rows, to, dy_stride, a_piece[term], images_left);
    if (on_tiles) turn_planes(to, dy.planes(), dy_stride, chunk.rows * dy.columns * dy.images / row_pixels);
  }
}

// dw of a block of output channels = or += that of a chunk
void multiply_chunk(const Geometry& d, const Conv2d& v, const Parts& parts, const ConvOperands& o, const Chunk& chunk, int64_t split,
                    real* dw, bool accumulate) {
  const OnTiles tiles;
  const int64_t k0 = split * d.split_k, k1 = smaller(d.K, k0 + d.split_k), dy_stride = d.dy.plane_stride(d.chunks.band_rows);
  Surroundings next = next_chunk(d, v, o, chunk.number, chunk.rows);
  Walk walk;
  walk.groups = d.chunks.groups * terms, walk.rows = chunk.rows, walk.length = d.dy.columns * d.dy.images, walk.next = &next;
  walk.x_group = parts.x_size, walk.x_row = d.x.row_stride() * d.x.step_h, walk.x_pixel = d.x.pitch;
  walk.dy_group = parts.dy_size, walk.dy_row = d.dy.row_stride(), walk.dy_pixel = N_LANES, walk.dy_plane = dy_stride;
  const auto copied = [&](int64_t k) { return chunk.dy + k / N_LANES * dy_stride + k % N_LANES; };
  if (d.copy_dy) return add_chunk(d, v, walk, chunk.x, copied, k0, k1, dw, accumulate);
  walk.dy_group = v.P * v.Q * v.K, walk.dy_row = v.Q * v.K, walk.dy_pixel = v.K;
  const storage* const dy = o.with + (chunk.image * v.P + chunk.p) * v.Q * v.K + chunk.group * d.K;
  add_chunk(d, v, walk, chunk.x, [&](int64_t k) { return as_operand(dy + k); }, k0, k1, dw, accumulate);
}

void add_parts(const Context& context, int64_t parts, int64_t size, const real* partial, real* dw) {
  constexpr int64_t step = 16384;
  parallel(context, divide_up(size, step), [&](int64_t block, int) {
    for_vectors(block * step, smaller(size, (block + 1) * step), [&](int64_t i, auto load, auto store) {
      vec sum = load(partial + i);
      for (int64_t part = 1; part < parts; part++) sum += load(partial + part * size + i);
      raise_flags(sum);
      store(dw + i, sum);
    });
  });
}

template <bool taps3, bool windows = false>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return layout(context, v, geometry(v, taps3, windows), nullptr).bytes;
}

template <bool taps3, bool windows = false>
void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Geometry d = geometry(v, taps3, windows);
  const Parts parts = layout(context, v, d, scratch);
  const int64_t size = v.G * d.weights();
  if (v.N == 0) return (void)__builtin_memset(o.dw, 0, size * sizeof(real));
  real* const sums = d.chunks.parts > 1 ? parts.partial : o.dw;
  // Chunks [begin, end) of each part
  const auto go_on = [&](int64_t begin, int64_t end, bool copies, bool multiplies) {
    parallel(context, v.G * d.chunks.parts * d.splits, [&](int64_t block, int worker) {
      const int64_t split = block % d.splits, slot = block / d.splits, part = slot % d.chunks.parts, group = slot / d.chunks.parts;
      const int64_t first = d.chunks.count * part / d.chunks.parts, last = d.chunks.count * (part + 1) / d.chunks.parts;
      for (int64_t number = first + begin; number < smaller(first + end, last); number++) {
        const Chunk chunk =
            chunk_of(d, v, parts, number, group, shared(d) ? parts.chunks + slot * parts.slot_size : parts.chunk.of(context, worker));
        if (copies) copy_chunk(d, v, parts, o, chunk, split);
        real* const dw = sums + part * size + group * d.weights();
        if (multiplies) multiply_chunk(d, v, parts, o, chunk, split, dw, number > first);
        const int64_t k = split * d.split_k, per_k = d.taps * d.C;
        if (multiplies && number + 1 == last && d.chunks.parts == 1) raise_flags(dw + k * per_k, smaller(d.K - k, d.split_k) * per_k);
      }
    });
  };
  if (!shared(d)) go_on(0, d.chunks.count, true, true);
  for (int64_t i = 0; shared(d) && i < divide_up(d.chunks.count, d.chunks.parts); i++)
    go_on(i, i + 1, true, false), go_on(i, i + 1, false, true);
  if (d.chunks.parts > 1) add_parts(context, d.chunks.parts, size, parts.partial, o.dw);
}

bool wide_enough(const Conv2d& v) { return v.G == 1 || (v.C / v.G >= 4 && v.K / v.G >= 4); }

bool accepts_taps3(const Conv2d& v) { return !on_tiles && wide_enough(v) && v.S == 3 && v.stride_w == 1 && v.dilation_w == 1; }

}  // namespace

#if defined(FASTNN_TILES)
const ConvAlgorithm direct_windows_backward_weight = {PRODUCT("windows"), of_whole_windows, scratch_bytes<false, true>, run<false, true>};
#endif
const ConvAlgorithm direct_taps3_backward_weight = {PRODUCT("direct_taps3"), accepts_taps3, scratch_bytes<true>, run<true>};
const ConvAlgorithm direct_backward_weight = {PRODUCT("direct"), wide_enough, scratch_bytes<false>, run<false>};

}  // namespace fastnn::FASTNN_TABLE
