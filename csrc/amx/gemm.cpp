// The tiles of gemm.h on AMX: up to 32 rows by two vectors of columns are four tiles, which two tiles of a and two of b feed. Planes of a
// and panels of b lie as the instructions read them; rows that are too many are computed, at no less cost, and not written.
#include "../cpu/tile_ends.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class Y, int Z, bool two>
void multiply_tiles(int first_rows, int second_rows, const Reduction& over, const operand* a, const operand* b, const Target<Y>& to) {
  const int64_t a_bytes = over.pitch * int64_t(sizeof(operand));
  constexpr int64_t row_bytes = N_LANES * sizeof(operand), stride = Z * row_bytes, tile_size = 16 * N_LANES;
  Tiles tiles;
  tiles.clear<0>(), tiles.clear<1>(), tiles.clear<2>(), tiles.clear<3>();
  for (int64_t done = 0; done < over.depth; done += N_LANES, a += over.plane_stride)
    for (int t = 0; t < over.taps; t++, b += Z * tile_size) {
      const operand* p = a + over.tap[t];
      tiles.read<4>(p, a_bytes), tiles.read<6>(b, row_bytes);
      if constexpr (two) tiles.read<5>(p + over.second, a_bytes);
      tiles.multiply<0, 4, 6>();
      if constexpr (Z == 2) tiles.read<7>(b + tile_size, row_bytes);
      if constexpr (two) tiles.multiply<2, 5, 6>();
      if constexpr (Z == 2) tiles.multiply<1, 4, 7>();
      if constexpr (two && Z == 2) tiles.multiply<3, 5, 7>();
    }
  alignas(64) real sums[32][Z * N_LANES];
  tiles.write<0>(sums[0], stride);
  if constexpr (Z == 2) tiles.write<1>(sums[0] + N_LANES, stride);
  if constexpr (two) tiles.write<2>(sums[16], stride);
  if constexpr (two && Z == 2) tiles.write<3>(sums[16] + N_LANES, stride);

  vec first[1][Z];
  begin(first, to);
  for (int half = 0; half < (two ? 2 : 1); half++) {
    Target<Y> row = to;
    row.row += 16 * half;
    for (int q = 16 * half; q < 16 * half + (half ? second_rows : first_rows); q++, row.row++) {
      vec sum[1][Z];
      UNROLL for (int z = 0; z < Z; z++) sum[0][z] = to.bias ? load(sums[q] + z * N_LANES) + first[0][z] : load(sums[q] + z * N_LANES);
      finish(sum, row);
    }
  }
}

template <class Y, int first, int second, int Z>
void amx_tile(const Reduction& over, const operand* a, const operand* b, const Target<Y>& to) {
  multiply_tiles<Y, Z, (second > 0)>(first, second, over, a, b, to);
}

template <class Y, int Z, int... q>
INLINE Tile<Y> pick(int rows, Lanes<q...>) {
  static constexpr Tile<Y> tiles[] = {amx_tile<Y, (q < 16 ? q + 1 : 16), (q < 16 ? 0 : q - 15), Z>...};
  return tiles[rows - 1];
}
template <class Y, int Z, int... q>
INLINE Tile<Y> pick_two(int each, Lanes<q...>) {
  static constexpr Tile<Y> tiles[] = {amx_tile<Y, q + 1, q + 1, Z>...};
  return tiles[each - 1];
}

}  // namespace

template <class Y>
Tile<Y> tile(int rows, int vectors, int) {
  constexpr LanesUpTo<most_rows>::type counts{};
  return vectors == 2 ? pick<Y, 2>(rows, counts) : pick<Y, 1>(rows, counts);
}

template <class Y>
Tile<Y> two_rows_tile(int each, int vectors) {
  constexpr LanesUpTo<16>::type counts{};
  return vectors == 2 ? pick_two<Y, 2>(each, counts) : pick_two<Y, 1>(each, counts);
}

template <class Y>
Tile<Y> taps3_tile(int, int, int) {
  return nullptr;  // a tile's rows are loaded, not broadcast: there is nothing to reuse
}

template Tile<real> tile<real>(int, int, int);
template Tile<storage> two_rows_tile<storage>(int, int);
template Tile<storage> taps3_tile<storage>(int, int, int);
#if defined(FASTNN_NARROW_STORAGE)
template Tile<storage> tile<storage>(int, int, int);
#endif

}  // namespace fastnn::FASTNN_TABLE
