// Winograd, backward to the weight of 3 x 3 windows with stride 1.
#include "winograd_normalized.h"
#include "winograd_weight_sums.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int tile>
struct Square {
  static constexpr int M = tile, T = Winograd<M>::T, planes = T * T, dy_planes = planes;
  static constexpr int64_t most_run = long_run;
  static INLINE Frequency frequency(int plane) { return {plane / T, plane % T, plane}; }
  using Input = typename Winograd<M>::Input;
  using OutputGradient = typename Winograd<M>::OutputGradient;

  static void transform_x(const Weights& d, const SortedTiles<most_run>& tiles, const ConvOperands& o, const storage* zeros, const Share& C,
                          real* to) {
    constexpr int64_t stride = x_stride<Square>;
    if (!o.normalized) return transform_run<Input, stride>(tiles, d.x, o.in, zeros, C, d.c_width, to);
    storage made[T * T * c_block];
    const TilePixels<T> pixels({T, T, c_block, 0, 0}, made - C.first, zeros, {0, 0, 0, true, true});
    for (int64_t t = 0; t < tiles.count; t++) {
      const TilePixels<T> next(d.x, o.in, zeros, tiles.at[smaller(t + 1, tiles.count - 1)]);
      normalize_tile<T>(d.x, o.in, *o.normalized, d.activation, tiles.at[t], C.first, C.count, made, c_block);
      transform_pixels<Input, stride>(pixels, next, C.first, C.count, to + t * d.c_width, N_LANES);
    }
  }

  template <class Load, class Store>
  static INLINE void finish(Load load, Store store) {
    transform_tile<typename Winograd<M>::FilterGradient>([&](int i, int j) { return load(i * T + j); },
                                                         [&](int i, int j, vec v) { store(3 * i + j, v); });
  }
};

template <int M>
bool accepts(const Conv2d& v) {
  const FittingGrid grid(v.N, v.P, v.Q, M);
  return winograd_pays(v, grid) && grid.count >= least_tiles;
}

constexpr int64_t most_normalizing = 64;  // output channels: each unit makes x anew
bool normalizes(const Conv2d& v) { return is_cheap(v.activation) && v.K <= most_normalizing; }

}  // namespace

const ConvAlgorithm winograd4_backward_weight = {"winograd4", accepts<4>, scratch_bytes<Square<4>>, run<Square<4>>, true, false,
                                                 false,       normalizes};
const ConvAlgorithm winograd2_backward_weight = {"winograd2", accepts<2>, scratch_bytes<Square<2>>, run<Square<2>>, true, false,
                                                 false,       normalizes};

}  // namespace fastnn::FASTNN_TABLE
