// Winograd for first layers, backward to the weight: for each frequency, sums over tiles of transformed pixels times transformed dy. Sums
// of a part of the blocks wait in the L2 cache; parts are added in their order by a second launch.
#include "winograd_first.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_parts = 16, least_part_blocks = 4;

int64_t parts_of(const Blocks& s) { return larger(1, smaller(most_parts, s.count() / least_part_blocks)); }

struct Parts {
  real* sums;     // of each part: [panel][frequency]
  real* workers;  // each: strip, pixels, dy
  int64_t count, size, worker_size, bytes;
};

Parts layout(const Context& context, const Conv2d& v, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.count = parts_of(Blocks(v)), parts.size = v.K / panel * frequencies * weight_step;
  parts.sums = scratch.take<real>(parts.count * parts.size);
  parts.worker_size = Blocks(v).worker_size();
  parts.workers = scratch.take<real>(parts.worker_size * context.workers);
  parts.bytes = scratch.bytes();
  return parts;
}

// Those of so many rows and channels of a pixel's 2 x 6 at one frequency
template <int rows, int across>
INLINE void add_products(const real* pixels, const real* dy, int64_t tiles, real* sums, bool more) {
  vec sum[rows * across][width];
  UNROLL for (int q = 0; q < rows * across; q++) UNROLL for (int k = 0; k < width; k++) sum[q][k] = zero();
  for (int64_t t = 0; t < tiles; t++, pixels += pitch, dy += panel) {
    vec d[width];
    UNROLL for (int k = 0; k < width; k++) d[k] = load(dy + k * N_LANES);
    UNROLL for (int q = 0; q < rows * across; q++) {
      const vec x = broadcast(pixels + q / across * 6 + q % across);
      UNROLL for (int k = 0; k < width; k++) sum[q][k] = fma(x, d[k], sum[q][k]);
    }
  }
  UNROLL for (int q = 0; q < rows * across; q++) UNROLL for (int k = 0; k < width; k++) {
    real* const to = sums + (q / across * 6 + q % across) * panel + k * N_LANES;
    store(to, more ? load(to) + sum[q][k] : sum[q][k]);
  }
}

template <int rows, int across>
INLINE void multiply(const real* pixels, const real* dy, int64_t tiles, real* sums, bool more) {
  if constexpr (registers == 32) return add_products<rows, across>(pixels, dy, tiles, sums, more);
  for (int r = 0; r < rows; r++) add_products<1, across>(pixels + 6 * r, dy, tiles, sums + 6 * r * panel, more);
}

void transform_dy(const Conv2d& v, const Blocks::Block& block, const storage* corner, real* dy) {
  const int64_t row = v.Q * v.K, height = v.P - block.row;
  for (int64_t t = 0; t < block.tiles; t++, corner += 4 * v.K, dy += panel) {
    const int64_t width_left = v.Q - block.column - 4 * t;
    for (int k = 0; k < panel; k += N_LANES) {
      const auto pixel = [&](int i, int j) { return load(corner + i * row + j * v.K + k); };
      const auto to = [&](int i, int j, vec e) { store(dy + (i * 7 + j) * product_step + k, e); };
      if (height >= 4 && width_left >= 4)
        transform_tile<Sevens::OutputGradient>(pixel, to);
      else
        transform_tile<Sevens::OutputGradient>([&](int i, int j) { return i < height && j < width_left ? pixel(i, j) : zero(); }, to);
    }
  }
}

void add_block(const Conv2d& v, const Blocks& s, const ConvOperands& o, int64_t i, real* strip, real* sums, bool more) {
  const Blocks::Block block = s.block(i);
  real *const pixels = strip + s.strip_size(), *const dy = pixels + frequencies * pixel_step;
  copy_strip(s, o.in, block, strip);
  transform_strip(s, strip, block.tiles, pixels);
  RowsAhead next_dy(v, s, o.with, i + 1);
  Ahead next_x = pixels_ahead(s, o.in, i);
  const storage* corner = o.with + ((block.image * v.P + block.row) * v.Q + block.column) * v.K;
  for (int64_t k = 0; k < v.K; k += panel, sums += frequencies * weight_step) {
    transform_dy(v, block, corner + k, dy);
    for (int f = 0; f < frequencies; f++) {
      next_dy.step(), next_x.step();
      with_phases(f, [&](auto phases) {
        multiply<phases.rows, 3 * phases.columns>(pixels + f * pixel_step, dy + f * product_step, block.tiles, sums + f * weight_step,
                                                  more);
      });
    }
  }
}

// dw of a vector of output channels from k on, of one channel of the pixels: the parts' sums in order, transformed. At frequencies that a
// channel has no weights for, taps that are not there alone are made of what lies there.
void finish(const Parts& parts, int64_t k, int64_t c, real* dw) {
  const real* const first = parts.sums + (k / panel * frequencies * channels + c) * panel + k % panel;
  transform_tile<Sevens::FilterGradient>(
      [&](int i, int j) {
        const real* const at = first + (i * 7 + j) * weight_step;
        vec sum = load(at);
        for (int64_t part = 1; part < parts.count; part++) sum += load(at + part * parts.size);
        return sum;
      },
      [&](int i, int j, vec tap) {
        const int64_t r = 2 * i + c / 6, s = 2 * j + c / 3 % 2;
        if (r == 7 || s == 7) return;
        real lanes[N_LANES];
        store(lanes, tap);
        for (int64_t lane = 0; lane < N_LANES; lane++) dw[((k + lane) * 49 + r * 7 + s) * 3 + c % 3] = lanes[lane];
      });
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, nullptr).bytes; }

void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Parts parts = layout(context, v, scratch);
  const Blocks s(v);
  __builtin_memset(parts.workers, 0, parts.worker_size * context.workers * sizeof(real));  // channels that are not there
  parallel(context, parts.count, [&](int64_t part, int worker) {
    const int64_t begin = s.count() * part / parts.count, end = s.count() * (part + 1) / parts.count;
    for (int64_t i = begin; i < end; i++)
      add_block(v, s, o, i, parts.workers + worker * parts.worker_size, parts.sums + part * parts.size, i > begin);
  });
  parallel(context, v.K / N_LANES * channels, [&](int64_t i, int) { finish(parts, i / channels * N_LANES, i % channels, o.dw); });
}

}  // namespace

const ConvAlgorithm winograd_first_backward_weight = {"winograd_first", first_pays, scratch_bytes, run, true};

}  // namespace fastnn::FASTNN_TABLE
