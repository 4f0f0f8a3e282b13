// Winograd, backward to the weight of 3 x 3 windows with stride 2: dy is transformed once for the four convolutions (winograd_phases.h).
#include "winograd_phases.h"
#include "winograd_strided.h"
#include "winograd_weight_sums.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr struct Frequencies {
  Frequency at[strided_planes] = {};
  constexpr Frequencies() {
    for (int p = 0; p < phases; p++)
      for (int f = 0; f < frequencies; f++)
        if (Phase(p).has(f)) at[plane(p, f / 5, f % 5)] = {f / 5, f % 5, f};
  }
} strided_frequencies;

struct Strided {
  static constexpr int M = 4, T = 5, dy_planes = frequencies, planes = strided_planes;
  static constexpr int64_t most_run = short_run;
  using OutputGradient = Halves::OutputGradient;

  static INLINE Frequency frequency(int plane) { return strided_frequencies.at[plane]; }

  template <int p>
  static void transform_phase(const Weights& d, const SortedTiles<most_run>& tiles, const storage* x, const storage* zeros, const Share& C,
                              real* to) {
    constexpr Phase phase(p);
    for (int64_t t = 0; t < tiles.count; t++) {
      const TileGrid::Place& at = tiles.at[t];
      const Pixels pixels(x, at.image, d.x.H, d.x.W, d.C, 2 * at.row - 1 + phase.single_row, 2 * at.column - 1 + phase.single_column, 2,
                          zeros);
      real* tile = to + t * d.c_width;
      for_vectors(C.first, C.first + C.count, [&](int64_t c, auto load, auto) {
        transform_tile<Halves::Input>([&](int i, int j) { return load(pixels.at[i * 5 + j] + c); },
                                      [&](int i, int j, vec v) {
                                        if (phase.has(i, j)) store(tile + plane(p, i, j) * x_stride<Strided>, v);
                                      });
        tile += N_LANES;
      });
    }
  }
  static void transform_x(const Weights& d, const SortedTiles<most_run>& tiles, const ConvOperands& o, const storage* zeros, const Share& C,
                          real* to) {
    transform_phase<0>(d, tiles, o.in, zeros, C, to), transform_phase<1>(d, tiles, o.in, zeros, C, to);
    transform_phase<2>(d, tiles, o.in, zeros, C, to), transform_phase<3>(d, tiles, o.in, zeros, C, to);
  }

  template <int p, class Load, class Store>
  static INLINE void finish_phase(Load load, Store store) {
    constexpr Phase phase(p);
    transform_tile<Halves::FilterGradient>([&](int i, int j) { return phase.has(i, j) ? load(plane(p, i, j)) : zero(); },
                                           [&](int i, int j, vec v) {
                                             const int r = Phase::row(phase.single_row, i, false);
                                             const int q = Phase::row(phase.single_column, j, false);
                                             if (r >= 0 && q >= 0) store(3 * r + q, v);
                                           });
  }
  template <class Load, class Store>
  static INLINE void finish(Load load, Store store) {
    finish_phase<0>(load, store), finish_phase<1>(load, store), finish_phase<2>(load, store), finish_phase<3>(load, store);
  }
};

// Tiles leave at most 0.7 of the products.
bool accepts(const Conv2d& v) {
  if (!strided_fits(v)) return false;
  const FittingGrid grid(v.N, v.P, v.Q, Strided::M);
  return grid.count >= least_tiles && double(strided_products(grid)) <= 0.7 * 9 * double(v.N * v.P * v.Q);
}

}  // namespace

const ConvAlgorithm winograd_strided_backward_weight = {"winograd_strided", accepts, scratch_bytes<Strided>, run<Strided>, true};

}  // namespace fastnn::FASTNN_TABLE
