// A batch gathered from a set of byte images, each cropped, mirrored and continued beyond its border by its map, and normalised.
#include "../border.h"
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

enum Array : int { image = 0, place = 1, arrays = 2 };  // which image of the batch, and the first element of a pack in it

struct Sizes {
  Divisor C, Q;
};

// Where an output pixel's channels lie in the source image; -1 where it is the fill.
__device__ __forceinline__ int64_t pixel_offset(const Augment& s, const Sizes& sizes, uint32_t pixel, const i64* map) {
  const uint32_t p = sizes.Q.divide(pixel), q = pixel - p * sizes.Q.value;
  const int64_t h = shown(map[0] + p, s.H, s.border), w = shown(map[1] + (map[2] < 0 ? -int64_t(q) : int64_t(q)), s.W, s.border);
  return h < 0 || w < 0 ? -1 : (h * s.W + w) * s.C;
}

template <int width>
__global__ void augment(Walk<arrays> walk, uint32_t count, Augment s, Sizes sizes, const u8* source, const i64* index, const i64* maps,
                        const T* fill, const R* scale, const R* shift, T* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<arrays> at = walk.at(position);
  const i64* map = maps + 3 * at.of[image];
  const u8* from = source + index[at.of[image]] * s.H * s.W * s.C;
  uint32_t pixel = sizes.C.divide(uint32_t(at.of[place])), c = uint32_t(at.of[place]) - pixel * sizes.C.value;
  int64_t offset = pixel_offset(s, sizes, pixel, map);
  Pack<T, width> to;
  UNROLL for (int j = 0; j < width; j++) {
    if (c == s.C) c = 0, offset = pixel_offset(s, sizes, ++pixel, map);
    to.e[j] = offset < 0 ? fill[c] : T(scale[c] * float(from[offset + c]) + shift[c]);
    c++;
  }
  store_pack(y + at.of[image] * s.P * s.Q * s.C + at.of[place], to);
}

template <int width>
void augment_packs(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                   const R* scale, const R* shift, T* y) {
  const Sizes sizes = {Divisor(s.C), Divisor(s.Q)};
  Space<arrays> space;
  space.add(s.batch, {1, 0});
  space.add(s.P * s.Q * s.C / width, {0, width});
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, augment<width>, unsigned(divide_up(count, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(count), s, sizes,
           source, index, map, fill, scale, shift, y);
  });
}

}  // namespace

void gather_augment(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                    const R* scale, const R* shift, T* y) {
  constexpr int width = 4;
  const auto run = s.P * s.Q * s.C % width == 0 && is_aligned(y, width * sizeof(T)) ? augment_packs<width> : augment_packs<1>;
  run(context, s, source, index, map, fill, scale, shift, y);
}

}  // namespace fastnn::FASTNN_TABLE
