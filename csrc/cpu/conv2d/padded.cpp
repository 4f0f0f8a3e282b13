#include "padded.h"
#if defined(FASTNN_TILES)
#include "../../amx/whole_windows.h"
#endif

namespace fastnn::FASTNN_TABLE {
namespace {

// `count` pixels of a row, `from_step` apart in the image and `to_step` in the plane; of two images, the other is `other` elements further,
// or missing where that is 0.
template <bool of_two_images>
INLINE void copy_wide_pixels(const storage* from, int64_t from_step, int64_t other, int64_t count, int64_t channels, operand* to,
                             int64_t to_step, int64_t plane_stride, Piece piece) {
  constexpr int width = of_two_images ? N_LANES : plane_numbers;
  const int tail = int(channels % width);
  for (int64_t j = 0; j < count; j++, from += from_step, to += to_step) {
    operand* plane = to;
    const storage *p = from, *q = other ? from + other : nullptr;
    for (const storage* end = from + channels - tail; p < end; p += width, plane += plane_stride) {
      store(plane, of_two_images ? across(p, q, piece) : along(p, piece));
      if (q) q += width;
    }
    if (tail) store(plane, of_two_images ? across_n(p, q, tail, piece) : along_n(p, tail, piece));
  }
}
INLINE void copy_narrow_pixels(const storage* from, int64_t from_step, int64_t count, int64_t channels, real* to, int64_t to_step) {
  const bool as_it_is = sizeof(storage) == sizeof(real) && from_step == channels && to_step == channels;
  if (as_it_is) return void(__builtin_memcpy(to, from, size_t(count * channels) * sizeof(real)));
  for (int64_t j = 0; j < count; j++, from += from_step, to += to_step)
    for (int64_t c = 0; c < channels; c++) to[c] = from[c];
}
INLINE void copy_narrow_pixels(const storage*, int64_t, int64_t, int64_t, void*, int64_t) {}  // pairs are never narrow

INLINE void zero_pixels(const PaddedInput& in, int64_t count, operand* to, int64_t plane_stride) {
  const int64_t step = in.images * in.pitch, channels = in.channels;
  if (in.pitch == N_LANES) {
    const int64_t planes = in.planes();
    for (int64_t j = 0; j < count; j++, to += step)
      for (int64_t plane = 0; plane < planes; plane++) store(to + plane * plane_stride, zero());
  } else {
    for (int64_t j = 0; j < count; j++, to += step)
      for (int64_t c = 0; c < channels; c++) to[c] = operand{};
  }
}

// One phase of a row of one image; `row` is null above and below the image.
INLINE void copy_phase(const PaddedInput& in, const storage* row, int64_t other, int64_t phase, operand* to, int64_t plane_stride,
                       Piece piece) {
  const int64_t count = in.phase_columns(), first = in.left + phase, step = in.images * in.pitch;
  int64_t begin = count, end = count;  // columns [begin, end) lie inside the image
  if (row && first < in.W) {
    begin = smaller(count, first < 0 ? divide_up(-first, in.step_w) : 0);
    end = larger(begin, smaller(count, divide_up(in.W - first, in.step_w)));
  }
  zero_pixels(in, begin, to, plane_stride);
  if (begin < end) {
    const storage* from = row + (first + begin * in.step_w) * in.pixel_stride;
    operand* inside = to + begin * step;
    const int64_t from_step = in.step_w * in.pixel_stride;
    if (together > 1 && in.of_two_images)
      copy_wide_pixels<true>(from, from_step, other, end - begin, in.channels, inside, step, plane_stride, piece);
    else if (in.pitch == N_LANES)
      copy_wide_pixels<false>(from, from_step, 0, end - begin, in.channels, inside, step, plane_stride, piece);
    else
      copy_narrow_pixels(from, from_step, end - begin, in.channels, inside, step);
  }
  zero_pixels(in, count - end, to + end * step, plane_stride);
}

}  // namespace

void copy_rows(const PaddedInput& in, const storage* x, int64_t first, int64_t rows, operand* planes, int64_t plane_stride, Piece piece,
               int64_t images_left) {
#if defined(FASTNN_TILES)
  if (in.window.rows) return copy_windows(in, x, first, rows, planes, piece, images_left);
#endif
  const int64_t phases = smaller(in.step_w, in.used_w), phase_size = in.phase_columns() * in.images * in.pitch;
  const int64_t image_size = in.H * in.W * in.pixel_stride, step = in.of_two_images ? together : 1;
  for (int64_t image = 0; image < in.images; image++)
    for (int64_t i = 0; i < rows; i++) {
      if ((first + i) % in.step_h >= in.used_h) continue;
      const int64_t h = in.top + first + i, other = image * step + 1 < images_left ? image_size : 0;
      const storage* row = h >= 0 && h < in.H ? x + image * step * image_size + h * in.W * in.pixel_stride : nullptr;
      operand* to = planes + i * in.row_stride() + image * in.pitch;
      for (int64_t phase = 0; phase < phases; phase++) copy_phase(in, row, other, phase, to + phase * phase_size, plane_stride, piece);
    }
}

}  // namespace fastnn::FASTNN_TABLE
