// Winograd F(4 x 4, 3 x 3) for one or two vectors of channels: what its three directions share. See winograd_narrow.cpp.
#pragma once
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t narrow_together = 4;  // blocks that a worker takes at once
// Tiles of a block whose wider side has that many channels: 36 KiB of transformed inputs.
constexpr int64_t narrow_tiles(int64_t channels) { return 256 / channels; }
// From one frequency of a block to the next, no power of two
constexpr int64_t narrow_stride(int64_t channels) { return narrow_tiles(channels) * channels + N_LANES; }

// Transforms the `vectors` of channels of a tile: frequency f of vector v goes to to + f stride + v N_LANES.
template <class F, int vectors, int64_t stride>
__attribute__((noinline)) void gather_tile(const Map& map, const storage* x, const storage* zeros, const TileGrid::Place& at, real* to) {
  constexpr int size = F::in, pitch = vectors * N_LANES;
  const int64_t top = at.row + map.top, left = at.column + map.left, row = map.W * pitch;
  const storage* corner = x + ((at.image * map.H + top) * map.W + left) * pitch;
  if (top >= 0 && left >= 0 && top + size <= map.H && left + size <= map.W) {
    for (int v = 0; v < pitch; v += N_LANES)
      transform_tile<F>([&](int i, int j) { return load(corner + i * row + j * pitch + v); },
                        [&](int i, int j, vec t) { store(to + (i * F::out + j) * stride + v, t); });
    return;
  }
  const storage* pixel[size * size];
  for (int i = 0; i < size; i++)
    for (int j = 0; j < size; j++) {
      const bool inside = uint64_t(top + i) < uint64_t(map.H) && uint64_t(left + j) < uint64_t(map.W);
      pixel[i * size + j] = inside ? corner + i * row + j * pitch : zeros;
    }
  for (int v = 0; v < pitch; v += N_LANES)
    transform_tile<F>([&](int i, int j) { return load(pixel[i * size + j] + v); },
                      [&](int i, int j, vec t) { store(to + (i * F::out + j) * stride + v, t); });
}

template <int count>
struct Vectors {
  static constexpr int of = count;
};
constexpr int64_t narrow_least = 16;  // channels

// body(Vectors<C>, Vectors<K>) for the numbers of vectors that fit both; instruction sets with short vectors have none.
template <class F>
INLINE void with_vectors(int64_t C, int64_t K, const F& body) {
  if constexpr (N_LANES >= narrow_least) {
    if (C > N_LANES) return K > N_LANES ? body(Vectors<2>{}, Vectors<2>{}) : body(Vectors<2>{}, Vectors<1>{});
    return K > N_LANES ? body(Vectors<1>{}, Vectors<2>{}) : body(Vectors<1>{}, Vectors<1>{});
  }
  if constexpr (2 * N_LANES == narrow_least) body(Vectors<2>{}, Vectors<2>{});
}

inline bool narrow_pays(const Conv2d& v, const TileGrid& grid) {
  const auto fits = [](int64_t channels) { return channels >= narrow_least && (channels == N_LANES || channels == 2 * N_LANES); };
  return winograd_fits(v) && fits(v.C) && fits(v.K) && grid.count >= 24 && saves_enough(v, grid);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
