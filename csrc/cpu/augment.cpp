// A batch gathered from a set of byte images, each cropped, mirrored and continued beyond its border by its map, and normalised.
#include "../border.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_bytes = 192;  // of a run of pixels: a multiple of 3 and of every vector

struct Colours {  // scale and shift of `pixels` pixels side by side
  int64_t pixels;
  const R *scale, *shift;
};

// n bytes, n at most the run's length
INLINE void normalize_run(const u8* __restrict from, const Colours& colours, T* __restrict to, int64_t n) {
  const R* __restrict scale = colours.scale, * __restrict shift = colours.shift;
  for (int64_t i = 0; i < n; i++) to[i] = T(scale[i] * R(from[i]) + shift[i]);
}

struct Line {  // of the output: pixel q shows pixel left + step q of the row
  const u8* row;
  int64_t left, step;
};

// `count` pixels from q on, in a buffer or where they lie
INLINE const u8* pixels_of(const Augment& s, const Line& line, int64_t q, int64_t count, u8* buffer) {
  const int64_t first = line.left + line.step * q, last = first + line.step * (count - 1);
  const bool inside = smaller(first, last) >= 0 && larger(first, last) < s.W;
  if (inside && line.step == 1) return line.row + first * s.C;
  for (int64_t i = 0; i < count; i++) {
    const int64_t place = first + line.step * i, w = inside ? place : shown(place, s.W, s.border);
    const u8* from = line.row + larger(w, 0) * s.C;
    for (int64_t c = 0; c < s.C; c++) buffer[i * s.C + c] = from[c];
  }
  return buffer;
}

INLINE void fill_pixel(const Augment& s, const T* fill, T* to) {
  for (int64_t c = 0; c < s.C; c++) to[c] = fill[c];
}

void write_line(const Augment& s, const Line& line, const T* fill, const Colours& colours, T* to) {
  u8 buffer[most_bytes];
  for (int64_t q = 0; q < s.Q; q += colours.pixels) {
    const int64_t count = smaller(colours.pixels, s.Q - q);
    const bool wide = s.C > most_bytes;  // then a run is one pixel
    const int64_t w = wide ? larger(shown(line.left + line.step * q, s.W, s.border), 0) : 0;
    const u8* from = wide ? line.row + w * s.C : pixels_of(s, line, q, count, buffer);
    normalize_run(from, colours, to + q * s.C, count * s.C);
  }
  if (s.border != Border::constant) return;
  for (int64_t q = 0; q < s.Q; q++)
    if (shown(line.left + line.step * q, s.W, s.border) < 0) fill_pixel(s, fill, to + q * s.C);
}

void write_image(const Augment& s, const u8* from, const i64* map, const T* fill, const Colours& colours, T* to) {
  for (int64_t p = 0; p < s.P; p++, to += s.Q * s.C) {
    const int64_t h = shown(map[0] + p, s.H, s.border);
    if (h >= 0) {
      write_line(s, {from + h * s.W * s.C, map[1], map[2] < 0 ? -1 : 1}, fill, colours, to);
    } else {
      for (int64_t q = 0; q < s.Q; q++) fill_pixel(s, fill, to + q * s.C);
    }
  }
}

}  // namespace

void gather_augment(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                    const R* scale, const R* shift, T* y) {
  R scales[most_bytes], shifts[most_bytes];
  Colours colours = {1, scale, shift};
  if (s.C <= most_bytes) {
    colours = {most_bytes / s.C, scales, shifts};
    for (int64_t i = 0; i < colours.pixels * s.C; i++) scales[i] = scale[i % s.C], shifts[i] = shift[i % s.C];
  }
  const int64_t size = s.P * s.Q * s.C, images = larger(1, 32768 / size);
  parallel(context, divide_up(s.batch, images), [&](int64_t block, int) {
    for (int64_t i = block * images; i < smaller((block + 1) * images, s.batch); i++)
      write_image(s, source + index[i] * s.H * s.W * s.C, map + 3 * i, fill, colours, y + i * size);
  });
}

}  // namespace fastnn::FASTNN_TABLE
