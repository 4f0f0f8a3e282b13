// Backward to the weight of a first layer, with up to four input channels: turned round, dw[(r, s, c)][k] = sum over pixels of x[(r, s, c)]
// dy[k]. A tile holds some entries (r, s, c) of the window by Z vectors of output channels in registers; x comes from a padded copy
// (padded.h), dy from where it lies, or from a copy with zeros behind its last channel.
#include "../gemm.h"
#include "../own.h"
#include "ahead.h"
#include "algorithm.h"
#include "partial_sums.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_chunk_bytes = 512 * 1024;  // x and dy: each of the tiles reads dy again
constexpr int64_t wanted_parts = 32, least_part_work = 256 * 1024;
constexpr int64_t least_entries = 24;  // for which a row takes long enough to ask for other rows meanwhile
constexpr int widest = 2;              // vectors of output channels in a tile

struct Geometry {
  PaddedInput x, dy;
  Chunks chunks;
  int64_t K, entries;  // of one group
  int64_t columns;     // K rounded up to whole vectors
  bool copy_dy;
  int64_t sums() const { return entries * columns; }
};

Geometry geometry(const Conv2d& v) {
  Geometry d;
  const int64_t C = v.C / v.G, reach_h = (v.R - 1) * v.dilation_h + 1, reach_w = (v.S - 1) * v.dilation_w + 1;
  d.K = v.K / v.G, d.entries = v.R * v.S * C;
  d.columns = divide_up(d.K, N_LANES) * N_LANES;
  d.copy_dy = d.columns != d.K || narrow;
  d.x = {v.H,        v.W,        v.C,     C,       1,          -v.pad_top, -v.pad_left, (v.Q - 1) * v.stride_w + reach_w,
         v.stride_h, v.stride_w, reach_h, reach_w, pitch_of(C)};
  d.dy = {v.P, v.Q, v.K, d.K, 1, 0, 0, v.Q, 1, 1, 1, 1, N_LANES};
  const auto plane_rows = [&](int64_t rows) { return (rows - 1) * v.stride_h + reach_h; };
  const int64_t work = v.N * v.P * v.Q * d.sums();
  d.chunks.choose(v.N, v.P, most_chunk_bytes, larger(1, smaller(wanted_parts, work / least_part_work)),
                  [&](int64_t rows) { return (d.x.size(plane_rows(rows)) + rows * v.Q * d.columns) * int64_t(sizeof(real)); });
  d.chunks.groups = 1;
  d.chunks.count = v.N * d.chunks.bands;
  d.chunks.plane_rows = plane_rows(d.chunks.band_rows);
  return d;
}

struct Parts {
  int32_t* entry;  // the offset of each entry in the plane of x
  real* partial;   // [group][part][entry][columns]
  Own<real> own;   // a plane of x, planes of dy
  int64_t x_size, bytes;
};

Parts layout(const Context& context, const Conv2d& v, const Geometry& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.entry = scratch.take<int32_t>(d.entries);
  parts.partial = scratch.take<real>(v.G * d.chunks.parts * d.sums());
  parts.x_size = divide_up(d.x.size(d.chunks.plane_rows), 16) * 16;
  parts.own = {context, scratch, parts.x_size + (d.copy_dy ? d.dy.size(d.chunks.band_rows) : 0)};
  parts.bytes = scratch.bytes();
  return parts;
}

// The pixels a tile walks over, and where vector z of dy[k] lies: z dy_vector further.
struct Walk {
  int64_t rows, length;
  int64_t x_row, x_pixel;
  int64_t dy_row, dy_pixel, dy_vector;
  Ahead* next;  // of dy, asked for a little at each row
};

using EntryTile = void (*)(const Walk&, const real* x, const int32_t* entry, const real* dy, real* sums, int64_t columns, bool accumulate);

template <int E, int Z>
void entry_tile(const Walk& walk, const real* x, const int32_t* entry, const real* dy, real* sums, int64_t columns, bool accumulate) {
  vec sum[E][Z];
  int64_t offset[E];
  UNROLL for (int e = 0; e < E; e++) {
    offset[e] = entry[e];
    UNROLL for (int z = 0; z < Z; z++) sum[e][z] = zero();
  }
  for (int64_t r = 0; r < walk.rows; r++) {
    walk.next->step();
    const real *pixel = x + r * walk.x_row, *d = dy + r * walk.dy_row;
    const int64_t x_pixel = walk.x_pixel, dy_pixel = walk.dy_pixel, dy_vector = walk.dy_vector;
    SHORT_STEPS for (int64_t j = walk.length; j > 0; j--, pixel += x_pixel, d += dy_pixel) {
      vec row[Z];
      UNROLL for (int z = 0; z < Z; z++) row[z] = load(d + z * dy_vector);
      UNROLL for (int e = 0; e < E; e++) {
        const vec b = broadcast<Z>(pixel + offset[e]);
        UNROLL for (int z = 0; z < Z; z++) sum[e][z] = fma(b, row[z], sum[e][z]);
      }
    }
  }
  UNROLL for (int e = 0; e < E; e++) UNROLL for (int z = 0; z < Z; z++) {
    real* to = sums + e * columns + z * N_LANES;
    store(to, accumulate ? load(to) + sum[e][z] : sum[e][z]);
  }
}

template <int Z, int... e>
INLINE EntryTile pick(int64_t entries, Lanes<e...>) {
  static constexpr EntryTile tiles[] = {entry_tile<e + 1, Z>...};
  return tiles[entries - 1];
}
INLINE EntryTile entry_tile_of(int64_t entries, int Z) {
  return Z == 2 ? pick<2>(entries, LanesUpTo<tile_rows(2, 1)>::type{}) : pick<1>(entries, LanesUpTo<tile_rows(1, 1)>::type{});
}

void add_chunk(const Geometry& d, const Walk& walk, const int32_t* entry, const real* x, const real* dy, real* sums, bool accumulate) {
  for (int64_t k = 0; k < d.columns;) {
    const int Z = k + widest * N_LANES <= d.columns ? widest : 1;
    const int64_t tiles = divide_up(d.entries, tile_rows(Z, 1));
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int64_t first = d.entries * tile / tiles, count = d.entries * (tile + 1) / tiles - first;
      entry_tile_of(count, Z)(walk, x, entry + first, dy + k / N_LANES * walk.dy_vector, sums + first * d.columns + k, d.columns,
                              accumulate);
    }
    k += Z * N_LANES;
  }
}

void run_part(const Geometry& d, const Conv2d& v, const Parts& parts, const ConvOperands& o, int64_t group, int64_t part, real* scratch,
              real* sums) {
  real *x = scratch, *copied_dy = scratch + parts.x_size;
  const int64_t dy_stride = d.dy.plane_stride(d.chunks.band_rows);
  const int64_t begin = d.chunks.count * part / d.chunks.parts, end = d.chunks.count * (part + 1) / d.chunks.parts;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    const int64_t image = chunk / d.chunks.bands, p = chunk % d.chunks.bands * d.chunks.band_rows,
                  rows = smaller(d.chunks.band_rows, v.P - p);
    copy_rows(d.x, o.in + image * v.H * v.W * v.C + group * d.x.channels, p * v.stride_h, (rows - 1) * v.stride_h + d.x.used_h, x,
              d.x.plane_stride(d.chunks.plane_rows));
    const storage* dy = o.with + image * v.P * v.Q * v.K + group * d.K;
    Ahead next;
    if (v.G == 1 && d.entries >= least_entries)
      next = Ahead::of_block(o.with, v.N * v.P * v.Q * v.K, chunk + 1, d.chunks.count, rows * divide_up(d.entries, tile_rows(1, 1)));
    Walk walk = {rows, v.Q, d.x.row_stride() * v.stride_h, d.x.pitch, v.Q * v.K, v.K, N_LANES, &next};
    if (d.copy_dy) {
      copy_rows(d.dy, dy, p, rows, copied_dy, dy_stride);
      walk.dy_row = d.dy.row_stride(), walk.dy_pixel = N_LANES, walk.dy_vector = dy_stride;
    }
    add_chunk(d, walk, parts.entry, x, d.copy_dy ? copied_dy : as_real(dy + p * v.Q * v.K), sums, chunk > begin);
  }
}

// dw[k][entry] = the sum of the partial sums, in order
void add_parts(const Geometry& d, int64_t groups, const real* partial, real* dw) {
  for (int64_t group = 0; group < groups; group++, partial += d.chunks.parts * d.sums(), dw += d.K * d.entries)
    for (int64_t e = 0; e < d.entries; e++)
      for (int64_t k = 0; k < d.columns; k += N_LANES) {
        const real* first = partial + e * d.columns + k;
        vec sum = load(first);
        for (int64_t part = 1; part < d.chunks.parts; part++) sum += load(first + part * d.sums());
        real lanes[N_LANES];
        store(lanes, sum);
        for (int64_t i = k; i < smaller(k + N_LANES, d.K); i++) dw[i * d.entries + e] = lanes[i - k];
      }
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, geometry(v), nullptr).bytes; }

void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Geometry d = geometry(v);
  const Parts parts = layout(context, v, d, scratch);
  if (v.N == 0) return (void)__builtin_memset(o.dw, 0, v.K * d.entries * sizeof(real));
  for (int64_t e = 0; e < d.entries; e++) {
    const int64_t tap = e / d.x.channels;
    parts.entry[e] = int32_t(d.x.offset(tap / v.S * v.dilation_h, tap % v.S * v.dilation_w) + e % d.x.channels);
  }
  parallel(context, v.G * d.chunks.parts, [&](int64_t block, int worker) {
    const int64_t group = block / d.chunks.parts, part = block % d.chunks.parts;
    run_part(d, v, parts, o, group, part, parts.own.of(context, worker), parts.partial + block * d.sums());
  });
  add_parts(d, v.G, parts.partial, o.dw);
}

bool accepts(const Conv2d& v) { return v.C / v.G <= 4 && v.C / v.G <= N_LANES && (v.G == 1 || v.K / v.G >= 4); }

}  // namespace

const ConvAlgorithm direct_small_c_backward_weight = {"direct_small_c", accepts, scratch_bytes, run};

}  // namespace fastnn::FASTNN_TABLE
