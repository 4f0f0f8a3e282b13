#include "winograd_weight_sums.h"

namespace fastnn::FASTNN_TABLE {
namespace {

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
      const vec b = broadcast<Z>(dy + q);
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

}  // namespace

void add_products(const PlaneOfTiles& dy, const PlaneOfTiles& x, int64_t tiles, real* sums, bool more) {
  const int64_t vectors = divide_up(x.count, N_LANES);
  for (int64_t v = 0; v < vectors;) {
    const int Z = vectors_at_once(vectors - v);
    const int64_t cuts = divide_up(dy.count, tile_rows(Z, 1));
    for (int64_t i = 0; i < cuts; i++) {
      const int64_t k = dy.count * i / cuts, rows = dy.count * (i + 1) / cuts - k;
      sum_tile(int(rows), Z)(dy.at + k, dy.width, x.at + v * N_LANES, x.width, tiles, sums + k * x.width + v * N_LANES, x.width, more);
    }
    v += Z;
  }
}

}  // namespace fastnn::FASTNN_TABLE
