// Backward to the weight: dw[k][r][s][c] = sum over pixels of dy[k] x[c]. A tile holds up to three taps x `tile_k` output channels x one
// vector of input channels in registers, and walks over the pixels of padded copies of x and dy (padded.h).
#include "algorithm.h"
#include "partial_sums.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int tile_k = vector_bytes == 64 ? 8 : N_LANES < 4 ? N_LANES : 4;
constexpr int tile_taps = 3;
constexpr int64_t most_chunk_bytes = 1 << 20;   // one plane of x and one of dy
constexpr int64_t most_part_bytes = 5 << 20;    // all partial sums
constexpr int64_t wanted_blocks = 16, least_block_work = 512 * 1024;

struct Geometry {
  PaddedInput x, dy;
  Chunks chunks;
  int64_t C, K, taps;    // of one group
  int64_t split_k, splits;  // output channels of a block
  bool copy_dy;          // into planes; else read where it lies
  int64_t weights() const { return K * taps * C; }
};

int64_t interleaved(int64_t N, int64_t width) {  // rows of at least 28 pixels
  int64_t images = 1;
  while (images < 8 && images * width < 28 && N % (2 * images) == 0) images *= 2;
  return images;
}

Geometry geometry(const Conv2d& v) {
  Geometry d;
  d.C = v.C / v.G, d.K = v.K / v.G, d.taps = v.R * v.S;
  const int64_t reach_h = (v.R - 1) * v.dilation_h + 1, reach_w = (v.S - 1) * v.dilation_w + 1, images = interleaved(v.N, v.Q);
  const int64_t work = v.N * v.P * v.Q * v.G * d.weights(), wanted = larger(1, smaller(wanted_blocks, work / least_block_work));
  d.x = {v.H, v.W, v.C, d.C, images, -v.pad_top, -v.pad_left, (v.Q - 1) * v.stride_w + reach_w, v.stride_h, v.stride_w, reach_h, reach_w,
         N_LANES};
  const int64_t weight_bytes = v.G * d.weights() * int64_t(sizeof(real));
  const int64_t most_parts = larger(1, smaller(divide_up(wanted, v.G), most_part_bytes / weight_bytes));
  d.dy = {v.P, v.Q, v.K, N_LANES, images, 0, 0, v.Q, 1, 1, 1, 1, N_LANES};
  const auto plane_rows = [&](int64_t rows) { return (rows - 1) * v.stride_h + reach_h; };
  d.chunks.choose(v.N / images, v.P, most_chunk_bytes, most_parts, [&](int64_t rows) {
    return (d.x.plane_stride(plane_rows(rows)) + d.dy.plane_stride(rows)) * int64_t(sizeof(real));
  });
  d.chunks.plane_rows = plane_rows(d.chunks.band_rows);
  const int64_t vectors = divide_up(d.K, N_LANES), splits = larger(1, smaller(divide_up(vectors, 2), wanted / (d.chunks.parts * v.G)));
  d.split_k = divide_up(vectors, splits) * N_LANES;
  d.splits = divide_up(d.K, d.split_k);
  d.copy_dy = images > 1 || d.K > 2 * N_LANES || d.K % tile_k != 0;
  d.dy.channels = smaller(d.split_k, d.K);
  return d;
}

struct Parts {
  real* partial;  // [part][group][K][tap][C]
  char* workers;  // each: planes of x, planes of dy
  int64_t x_size, dy_size, worker_bytes, bytes;
};

Parts layout(const Context& context, const Conv2d& v, const Geometry& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.partial = scratch.take<real>(d.chunks.parts > 1 ? d.chunks.parts * v.G * d.weights() : 0);
  parts.x_size = d.x.size(d.chunks.plane_rows);
  parts.dy_size = d.copy_dy ? d.dy.size(d.chunks.band_rows) : 0;
  parts.worker_bytes = ((parts.x_size + parts.dy_size) * d.chunks.groups * int64_t(sizeof(real)) + 127) / 64 * 64;
  parts.workers = scratch.take<char>(parts.worker_bytes * context.workers);
  parts.bytes = scratch.bytes();
  return parts;
}

// The pixels a tile walks over: `groups` of images, `rows`, `length` pixels of a row.
struct Walk {
  int64_t groups, rows, length;
  int64_t x_group, x_row;
  int64_t dy_group, dy_row, dy_pixel;
};

struct TapTarget {
  const real* x;  // the plane of its channels, moved by the tap
  real* dw;
  int lanes;
};

// dw[tap][k] (+)= sum over pixels of dy[k] x[tap]; of tile_k output channels the first `k_count` are written, k_stride apart.
template <int taps>
void weight_tile(const Walk& walk, const TapTarget* target, const real* dy, int k_count, int64_t k_stride, bool accumulate) {
  vec sum[taps][tile_k];
  UNROLL for (int t = 0; t < taps; t++) UNROLL for (int k = 0; k < tile_k; k++) sum[t][k] = zero();
  for (int64_t g = 0; g < walk.groups; g++)
    for (int64_t r = 0; r < walk.rows; r++) {
      const real* x[taps];
      UNROLL for (int t = 0; t < taps; t++) x[t] = target[t].x + g * walk.x_group + r * walk.x_row;
      const real* d = dy + g * walk.dy_group + r * walk.dy_row;
      const int64_t length = walk.length, dy_pixel = walk.dy_pixel;
      for (int64_t j = 0; j < length; j++, d += dy_pixel) {
        vec pixel[taps];
        UNROLL for (int t = 0; t < taps; t++) pixel[t] = load(x[t] + j * N_LANES);
        UNROLL for (int k = 0; k < tile_k; k++) {
          const vec b = broadcast(d + k);
          UNROLL for (int t = 0; t < taps; t++) sum[t][k] = fma(b, pixel[t], sum[t][k]);
        }
      }
    }
  UNROLL for (int t = 0; t < taps; t++) UNROLL for (int k = 0; k < tile_k; k++) {
    if (k >= k_count) continue;
    real* to = target[t].dw + k * k_stride;
    store_n(to, target[t].lanes, accumulate ? load_n(to, target[t].lanes) + sum[t][k] : sum[t][k]);
  }
}

// One chunk into its partial sum, for output channels [k0, k1). `x` are its planes; element (k, pixel) of dy is found by dy_at(k).
template <class At>
void add_chunk(const Geometry& d, const Conv2d& v, const Walk& walk, const real* x, At dy_at, int64_t k0, int64_t k1, real* dw, bool accumulate) {
  const int64_t plane_stride = d.x.plane_stride(d.chunks.plane_rows), entries = d.x.planes() * d.taps, tiles = divide_up(entries, tile_taps);
  const auto first_of = [&](int64_t tile) { return entries * tile / tiles; };
  for (int64_t tile = 0, end; tile < tiles; tile = end) {  // all tiles that begin in one plane of x, so that it stays in the cache
    for (end = tile + 1; end < tiles && first_of(end) / d.taps == first_of(tile) / d.taps;) end++;
    for (int64_t k = k0; k < k1; k += tile_k)
      for (int64_t i = tile; i < end; i++) {
        TapTarget target[tile_taps];
        const int64_t first = first_of(i), count = first_of(i + 1) - first;
        for (int64_t e = 0; e < count; e++) {
          const int64_t c = (first + e) / d.taps * N_LANES, tap = (first + e) % d.taps, r = tap / v.S, s = tap % v.S;
          target[e] = {x + c / N_LANES * plane_stride + d.x.offset(r * v.dilation_h, s * v.dilation_w), dw + (k * d.taps + tap) * d.C + c,
                       int(smaller(N_LANES, d.C - c))};
        }
        (count == 3 ? weight_tile<3> : count == 2 ? weight_tile<2> : weight_tile<1>)(walk, target, dy_at(k), int(smaller(tile_k, k1 - k)),
                                                                                      d.taps * d.C, accumulate);
      }
  }
}

void run_block(const Geometry& d, const Conv2d& v, const Parts& parts, const ConvOperands& o, int64_t group, int64_t part, int64_t split,
               real* scratch, real* dw) {
  const int64_t k0 = split * d.split_k, k1 = smaller(d.K, k0 + d.split_k), images = d.x.images;
  const int64_t x_stride = d.x.plane_stride(d.chunks.plane_rows), dy_stride = d.dy.plane_stride(d.chunks.band_rows);
  real *x = scratch, *dy = scratch + parts.x_size * d.chunks.groups;
  PaddedInput own_dy = d.dy;
  own_dy.channels = k1 - k0;
  const int64_t begin = d.chunks.count * part / d.chunks.parts, end = d.chunks.count * (part + 1) / d.chunks.parts;
  for (int64_t chunk = begin; chunk < end; chunk++) {
    const int64_t p = chunk % d.chunks.bands * d.chunks.band_rows, rows = smaller(d.chunks.band_rows, v.P - p);
    const int64_t image = chunk / d.chunks.bands * d.chunks.groups * images;
    const storage* own = o.with + (image * v.P + p) * v.Q * v.K + group * d.K + k0;
    for (int64_t i = 0; i < d.chunks.groups; i++) {
      copy_rows(d.x, o.in + (image + i * images) * v.H * v.W * v.C + group * d.C, p * v.stride_h,
                (rows - 1) * v.stride_h + d.x.used_h, x + i * parts.x_size, x_stride);
      if (d.copy_dy) copy_rows(own_dy, own + (i * images * v.P - p) * v.Q * v.K, p, rows, dy + i * parts.dy_size, dy_stride);
    }
    Walk walk = {d.chunks.groups, rows, v.Q * images, parts.x_size, d.x.row_stride() * v.stride_h, parts.dy_size, d.dy.row_stride(), N_LANES};
    if (d.copy_dy) {
      add_chunk(d, v, walk, x, [&](int64_t k) { return dy + (k - k0) / N_LANES * dy_stride + (k - k0) % N_LANES; }, k0, k1, dw, chunk > begin);
    } else {
      walk.dy_group = v.P * v.Q * v.K, walk.dy_row = v.Q * v.K, walk.dy_pixel = v.K;
      add_chunk(d, v, walk, x, [&](int64_t k) { return own + (k - k0); }, k0, k1, dw, chunk > begin);
    }
  }
}

void add_parts(const Context& context, int64_t parts, int64_t size, const real* partial, real* dw) {
  constexpr int64_t step = 16384;
  parallel(context, divide_up(size, step), [&](int64_t block, int) {
    for_vectors(block * step, smaller(size, (block + 1) * step), [&](int64_t i, auto load, auto store) {
      vec sum = load(partial + i);
      for (int64_t part = 1; part < parts; part++) sum += load(partial + part * size + i);
      store(dw + i, sum);
    });
  });
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, geometry(v), nullptr).bytes; }

void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Geometry d = geometry(v);
  const Parts parts = layout(context, v, d, scratch);
  const int64_t size = v.G * d.weights();
  if (v.N == 0) return (void)__builtin_memset(o.out, 0, size * sizeof(storage));
  parallel(context, v.G * d.chunks.parts * d.splits, [&](int64_t block, int worker) {
    const int64_t split = block % d.splits, part = block / d.splits % d.chunks.parts, group = block / d.splits / d.chunks.parts;
    real* dw = (d.chunks.parts > 1 ? parts.partial + part * size : o.out) + group * d.weights();
    run_block(d, v, parts, o, group, part, split, reinterpret_cast<real*>(parts.workers + worker * parts.worker_bytes), dw);
  });
  if (d.chunks.parts > 1) add_parts(context, d.chunks.parts, size, parts.partial, o.out);
}

bool wide_enough(const Conv2d& v) { return v.G == 1 || (v.C / v.G >= 4 && v.K / v.G >= 4); }

}  // namespace

const ConvAlgorithm direct_backward_weight = {"direct", wide_enough, scratch_bytes, run};

}  // namespace fastnn::FASTNN_TABLE
