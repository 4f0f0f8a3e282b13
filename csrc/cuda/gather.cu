// A batch gathered from a set of byte images and normalised.
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

enum Array : int { image = 0, place = 1, channel = 2, arrays = 3 };  // which image, where in it, and a channel, counted on past C

template <int width>
__global__ void gather(Walk<arrays> walk, uint32_t count, Gather s, const u8* source, const i64* index, const f32* scale, const f32* shift,
                       f32* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<arrays> at = walk.at(position);
  const int64_t image_size = s.C * s.pixels;
  const Pack<u8, width> from = load_pack<width>(source + index[at.of[image]] * image_size + at.of[place]);
  Pack<f32, width> to;
  int64_t c = at.of[channel];
  while (c >= s.C) c -= s.C;
  UNROLL for (int j = 0; j < width; j++) {
    to.e[j] = scale[c] * float(from.e[j]) + shift[c];
    if (++c == s.C) c = 0;
  }
  store_pack(y + at.of[image] * image_size + at.of[place], to);
}

// An image as repetitions of a run of packs, over which the channels repeat as well: of a pixel, or of `width` pixels.
template <int width>
void gather_packs(const Context& context, const Gather& s, const u8* source, const i64* index, const f32* scale, const f32* shift, f32* y) {
  const int64_t size = s.C * s.pixels, run = s.C % width ? width * s.C : s.C;
  Space<arrays> space;
  space.add(s.batch, {1, 0, 0});
  space.add(size / run, {0, run, 0});
  space.add(run / width, {0, width, width});
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, gather<width>, unsigned(divide_up(count, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(count), s, source,
           index, scale, shift, y);
  });
}

}  // namespace

void gather_normalize(const Context& context, const Gather& s, const u8* source, const i64* index, const f32* scale, const f32* shift,
                      f32* y) {
  if (s.C * s.pixels == 0) return;
  constexpr int width = 4;  // 16 bytes of y, which has four times the bytes of the source
  const bool runs = s.C % width == 0 || s.pixels % width == 0;
  if (runs && is_aligned(source, width) && is_aligned(y, 16))
    gather_packs<width>(context, s, source, index, scale, shift, y);
  else
    gather_packs<1>(context, s, source, index, scale, shift, y);
}

}  // namespace fastnn::FASTNN_TABLE
