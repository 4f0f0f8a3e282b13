#include "padded.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// `count` pixels of a row, `from_step` apart in the image and `to_step` in the plane.
INLINE void copy_wide_pixels(const storage* from, int64_t from_step, int64_t count, int64_t channels, real* to, int64_t to_step,
                             int64_t plane_stride) {
  const int tail = int(channels % N_LANES);
  for (int64_t j = 0; j < count; j++, from += from_step, to += to_step) {
    real* plane = to;
    int64_t c = 0;
    for (; c + N_LANES <= channels; c += N_LANES, plane += plane_stride) store(plane, load(from + c));
    if (tail) store(plane, load_n(from + c, tail));
  }
}
INLINE void copy_narrow_pixels(const storage* from, int64_t from_step, int64_t count, int64_t channels, real* to, int64_t to_step) {
  constexpr bool same = sizeof(storage) == sizeof(real);
  // Of three channels four are copied while another pixel follows: nobody reads the fourth.
  for (; same && channels == 3 && count > 1; count--, from += from_step, to += to_step) __builtin_memcpy(to, from, 4 * sizeof(real));
  for (int64_t j = 0; j < count; j++, from += from_step, to += to_step)
    for (int64_t c = 0; c < channels; c++) to[c] = from[c];
}

INLINE void zero_pixels(const PaddedInput& in, int64_t count, real* to, int64_t plane_stride) {
  const int64_t step = in.images * in.pitch, channels = in.channels;
  if (in.pitch == N_LANES) {
    const int64_t planes = in.planes();
    for (int64_t j = 0; j < count; j++, to += step)
      for (int64_t plane = 0; plane < planes; plane++) store(to + plane * plane_stride, zero());
  } else {
    for (int64_t j = 0; j < count; j++, to += step)
      for (int64_t c = 0; c < channels; c++) to[c] = 0;
  }
}

// One phase of a row of one image; `row` is null above and below the image.
INLINE void copy_phase(const PaddedInput& in, const storage* row, int64_t phase, real* to, int64_t plane_stride) {
  const int64_t count = in.phase_columns(), first = in.left + phase, step = in.images * in.pitch;
  int64_t begin = count, end = count;  // columns [begin, end) lie inside the image
  if (row && first < in.W) {
    begin = smaller(count, first < 0 ? divide_up(-first, in.step_w) : 0);
    end = larger(begin, smaller(count, divide_up(in.W - first, in.step_w)));
  }
  zero_pixels(in, begin, to, plane_stride);
  if (begin < end) {
    const storage* from = row + (first + begin * in.step_w) * in.pixel_stride;
    real* inside = to + begin * step;
    const int64_t from_step = in.step_w * in.pixel_stride;
    if (in.pitch == N_LANES)
      copy_wide_pixels(from, from_step, end - begin, in.channels, inside, step, plane_stride);
    else
      copy_narrow_pixels(from, from_step, end - begin, in.channels, inside, step);
  }
  zero_pixels(in, count - end, to + end * step, plane_stride);
}

}  // namespace

void copy_rows(const PaddedInput& in, const storage* x, int64_t first, int64_t rows, real* planes, int64_t plane_stride) {
  const int64_t phases = smaller(in.step_w, in.used_w), phase_size = in.phase_columns() * in.images * in.pitch;
  for (int64_t image = 0; image < in.images; image++)
    for (int64_t i = 0; i < rows; i++) {
      if ((first + i) % in.step_h >= in.used_h) continue;
      const int64_t h = in.top + first + i;
      const storage* row = h >= 0 && h < in.H ? x + (image * in.H + h) * in.W * in.pixel_stride : nullptr;
      real* to = planes + i * in.row_stride() + image * in.pitch;
      for (int64_t phase = 0; phase < phases; phase++) copy_phase(in, row, phase, to + phase * phase_size, plane_stride);
    }
}

}  // namespace fastnn::FASTNN_TABLE
