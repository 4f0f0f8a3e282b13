// Winograd for first layers, forward. A block's transformed pixels and one panel of products stay in the caches next to the processor.
#include "winograd_first.h"
#include "winograd_output.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Parts {
  real* weights;  // [panel][frequency]
  real* workers;  // each: strip, pixels, products
  int64_t worker_size, bytes;
};

Parts layout(const Context& context, const Conv2d& v, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.weights = scratch.take<real>(v.K / panel * frequencies * weight_step);
  parts.worker_size = Blocks(v).worker_size();
  parts.workers = scratch.take<real>(parts.worker_size * context.workers);
  parts.bytes = scratch.bytes();
  return parts;
}

// A vector of output channels from k on
void transform_weights(const storage* w, int64_t k, real* weights) {
  for (int c = 0; c < channels; c++)
    transform_tile<Sevens::Filter>(
        [&](int i, int j) {
          const int r = 2 * i + c / 6, s = 2 * j + c / 3 % 2;
          if (r == 7 || s == 7) return zero();
          real lanes[N_LANES];
          for (int64_t lane = 0; lane < N_LANES; lane++) lanes[lane] = real(w[((k + lane) * 49 + r * 7 + s) * 3 + c % 3]);
          return load(lanes);
        },
        [&](int i, int j, vec u) { store(weights + (i * 7 + j) * weight_step + c * panel, u); });
}

// The products of one frequency
template <int row_phases, int column_phases>
INLINE void multiply(const real* pixels, const real* weights, int64_t tiles, real* products) {
  for (int64_t t = 0; t < tiles; t += at_once, pixels += at_once * pitch, products += at_once * panel) {
    vec sum[at_once][width];
    UNROLL for (int q = 0; q < at_once; q++) UNROLL for (int k = 0; k < width; k++) sum[q][k] = zero();
    for (int r = 0; r < row_phases; r++)
      for (int c = 6 * r; c < 6 * r + 3 * column_phases; c++) {
        vec w[width];
        UNROLL for (int k = 0; k < width; k++) w[k] = load(weights + c * panel + k * N_LANES);
        UNROLL for (int q = 0; q < at_once; q++) {
          const vec x = broadcast(pixels + q * pitch + c);
          UNROLL for (int k = 0; k < width; k++) sum[q][k] = fma(x, w[k], sum[q][k]);
        }
      }
    UNROLL for (int q = 0; q < at_once; q++) UNROLL for (int k = 0; k < width; k++) store(products + q * panel + k * N_LANES, sum[q][k]);
  }
}

void run_block(const Conv2d& v, const Blocks& s, const real* weights, const ConvOperands& o, int64_t i, real* strip) {
  const Blocks::Block block = s.block(i);
  real *const pixels = strip + s.strip_size(), *const products = pixels + frequencies * pixel_step;
  copy_strip(s, o.in, block, strip);
  transform_strip(s, strip, block.tiles, pixels);
  const int64_t corner = ((block.image * v.P + block.row) * v.Q + block.column) * v.K;
  RowsAhead own(v, s, o.out, i);
  Ahead next = pixels_ahead(s, o.in, i);
  for (int64_t k = 0; k < v.K; k += panel, weights += frequencies * weight_step) {
    for (int f = 0; f < frequencies; f++) {
      own.step(), next.step();
      with_phases(f, [&](auto phases) {
        multiply<phases.rows, phases.columns>(pixels + f * pixel_step, weights + f * weight_step, block.tiles, products + f * product_step);
      });
    }
    for (int64_t t = 0; t < block.tiles; t++)
      for (int64_t vector = k; vector < k + panel; vector += N_LANES) {
        const int64_t to = corner + 4 * t * v.K + vector;
        write_pixels<Sevens::Output, product_step>(products + t * panel + vector - k,
                                                   {o.out + to, o.residual ? o.residual + to : nullptr, o.bias ? o.bias + vector : nullptr,
                                                    v.Q * v.K, v.K, v.P - block.row, v.Q - block.column - 4 * t, N_LANES, v.activation});
      }
  }
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return layout(context, v, nullptr).bytes; }

void run(const Context& context, const Conv2d& v, const ConvOperands& o, void* scratch) {
  const Parts parts = layout(context, v, scratch);
  const Blocks s(v);
  __builtin_memset(parts.workers, 0, parts.worker_size * context.workers * sizeof(real));  // channels and tiles that are not there
  parallel(context, context.packing == Packing::kept ? 0 : v.K / N_LANES, [&](int64_t i, int) {
    transform_weights(o.with, i * N_LANES, parts.weights + i / width * frequencies * weight_step + i % width * N_LANES);
  });
  parallel(context, s.count(),
           [&](int64_t i, int worker) { run_block(v, s, parts.weights, o, i, parts.workers + worker * parts.worker_size); });
}

}  // namespace

const ConvAlgorithm winograd_first_forward = {"winograd_first", first_pays, scratch_bytes, run, true, true, true};

}  // namespace fastnn::FASTNN_TABLE
