// Tiles of an x that is made of z where they are gathered: the bits of batch normalisation and ReLU in a pass of their own.
#pragma once
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// The size x size pixels of a tile, their channels [first, first + channels), `pitch` apart in `to`; those outside of the map are 0.
template <int size>
INLINE void normalize_tile(const Map& map, const storage* z, const Normalized& n, Activation activation, const TileGrid::Place& place,
                           int64_t first, int64_t channels, storage* to, int64_t pitch) {
  const int64_t top = place.row + map.top, left = place.column + map.left;
  const storage* const corner = z + ((place.image * map.H + top) * map.W + left) * map.channels + first;
  const vec floor = set(activation == Activation::relu ? real(0) : -real(__builtin_inf()));
  for_vectors(0, channels, [&](int64_t c, auto load, auto store) {
    const vec mean = load(n.mean + first + c), rstd = load(n.rstd + first + c);
    const vec scale = n.gamma ? load(n.gamma + first + c) * rstd : rstd, shift = n.beta ? load(n.beta + first + c) : zero();
    const storage* from = corner + c;
    storage* pixel = to + c;
    for (int i = 0; i < size; i++, from += map.W * map.channels, pixel += size * pitch) {
      const bool inside = uint64_t(top + i) < uint64_t(map.H);
      const auto made = [&](int j) { return max(floor, fma(load(from + j * map.channels) - mean, scale, shift)); };
      if (inside && left >= 0 && left + size <= map.W) {
        UNROLL for (int j = 0; j < size; j++) store(pixel + j * pitch, made(j));
      } else {
        for (int j = 0; j < size; j++) store(pixel + j * pitch, inside && uint64_t(left + j) < uint64_t(map.W) ? made(j) : zero());
      }
    }
  });
}

// More than ReLU is more than is worth doing again for every tile that has a pixel.
inline bool is_cheap(Activation activation) { return activation == Activation::none || activation == Activation::relu; }

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
