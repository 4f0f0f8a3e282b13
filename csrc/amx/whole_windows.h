// First layers: their few channels would leave most of a tile empty, but a whole window of them, R rows of S C numbers that follow each
// other in the image, fills it. A pixel of the plane is then the window of an output, and the convolution a product of matrices:
//
//   [row][column][image][pitch operands]: the window's numbers, [row][column][channel], and zeros
#pragma once
#include "../cpu/conv2d/padded.h"
#include "first_layers.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// What one load and one store copy of a window's row. The next one overwrites what is not the row's; behind the last there are zeros.
struct Portion {
  int64_t row, begin, from, at;  // the row, the first number of it, that one's place after the window's corner and in the pixel
  uint32_t numbers, written;     // which are loaded, and which written: not beyond the pixel
};
struct Portions {
  Portion of[most_window_portions];
  int count = 0;
};

// The first n of 32
INLINE uint32_t first_of_32(int64_t n) { return n >= 32 ? ~0u : n <= 0 ? 0 : (1u << n) - 1; }

Portions portions_of(const PaddedInput& in) {
  Portions all;
  const int64_t length = in.window.columns * in.pixel_stride, width = in.plane_channels(), pixel = in.planes() * width;
  for (int64_t row = 0; row < in.window.rows; row++)
    for (int64_t begin = 0; begin < length; begin += width) {
      const int64_t at = row * length + begin, from = row * in.W * in.pixel_stride + begin;
      all.of[all.count++] = {row, begin, from, at, first_of_32(smaller(width, length - begin)), first_of_32(smaller(width, pixel - at))};
    }
  return all;
}

// A window: `corner` in the image, and (`other` numbers further, or none where that is 0) in a second one
template <bool of_two_images>
INLINE void copy_window(const Portions& portions, const storage* corner, int64_t other, operand* to, Piece piece) {
  for (int i = 0; i < portions.count; i++) {
    const Portion& part = portions.of[i];
    const storage* const from = corner + part.from;
    if constexpr (of_two_images)
      store_lanes(to + part.at, part.written, across_lanes(from, other ? from + other : nullptr, part.numbers, piece));
    else
      store_numbers(to, part.at, part.written, along_lanes(from, part.numbers, piece));
  }
}

// Row `row` of the plane
template <bool of_two_images>
void copy_window_row(const PaddedInput& in, const Portions& whole, const storage* image, int64_t other, int64_t row, operand* to,
                     Piece piece) {
  const int64_t C = in.pixel_stride, step = in.images * in.pitch, top = in.top + row * in.window.step_h;
  Portions present = whole;  // but for rows above and below the image
  for (int i = 0; i < whole.count; i++)
    if (uint64_t(top + whole.of[i].row) >= uint64_t(in.H)) present.of[i].numbers = 0;
  for (int64_t q = 0; q < in.window.outputs; q++, to += step) {
    const int64_t left = in.left + q * in.window.step_w;
    const storage* const corner = image + (top * in.W + left) * C;
    store(to + in.pitch - N_LANES, zero());
    if (left >= 0 && left + in.window.columns <= in.W) {
      copy_window<of_two_images>(present, corner, other, to, piece);
    } else {
      Portions inside = present;
      for (int i = 0; i < inside.count; i++)
        inside.of[i].numbers &= first_of_32((in.W - left) * C - inside.of[i].begin) & ~first_of_32(-left * C - inside.of[i].begin);
      copy_window<of_two_images>(inside, corner, other, to, piece);
    }
  }
  for (int64_t q = in.window.outputs; q < in.columns; q++, to += step)
    for (int64_t i = 0; i < in.pitch; i += N_LANES) store(to + i, zero());
}

INLINE void copy_windows(const PaddedInput& in, const storage* x, int64_t first, int64_t rows, operand* pixels, Piece piece,
                         int64_t images_left) {
  const int64_t image_size = in.H * in.W * in.pixel_stride, step = in.of_two_images ? together : 1;
  const Portions portions = portions_of(in);
  for (int64_t image = 0; image < in.images; image++)
    for (int64_t i = 0; i < rows; i++)
      (in.of_two_images ? copy_window_row<true> : copy_window_row<false>)(in, portions, x + image * step * image_size,
                                                                          image * step + 1 < images_left ? image_size : 0, first + i,
                                                                          pixels + i * in.row_stride() + image * in.pitch, piece);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
