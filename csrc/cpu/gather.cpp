// A batch gathered from a set of byte images and normalised. Float32 in every table, so written as plain loops.
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t pattern_elements = 192;  // scale and shift of a few pixels side by side: a multiple of 3 and of every vector

// n bytes, n at most the pattern's length
INLINE void normalize_run(const u8* __restrict from, const f32* __restrict scale, const f32* __restrict shift, f32* __restrict to,
                          int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = scale[i] * f32(from[i]) + shift[i];
}

void normalize_image(const u8* from, int64_t n, const f32* scale, const f32* shift, int64_t period, f32* to) {
  int64_t i = 0;
  if (period == pattern_elements)
    for (; i + pattern_elements <= n; i += pattern_elements) normalize_run(from + i, scale, shift, to + i, pattern_elements);
  for (; i < n; i += period) normalize_run(from + i, scale, shift, to + i, smaller(period, n - i));
}

}  // namespace

void gather_normalize(const Context& context, const Gather& s, const u8* source, const i64* index, const f32* scale, const f32* shift,
                      f32* y) {
  const int64_t image = s.C * s.pixels;
  if (image == 0) return;
  f32 scales[pattern_elements], shifts[pattern_elements];
  const bool repeated = pattern_elements % s.C == 0;
  if (repeated)
    for (int64_t i = 0; i < pattern_elements; i++) scales[i] = scale[i % s.C], shifts[i] = shift[i % s.C];
  const f32 *const scale_run = repeated ? scales : scale, *const shift_run = repeated ? shifts : shift;
  const int64_t period = repeated ? pattern_elements : s.C, images = larger(1, 32768 / image);
  parallel(context, divide_up(s.batch, images), [&](int64_t block, int) {
    for (int64_t i = block * images; i < smaller((block + 1) * images, s.batch); i++)
      normalize_image(source + index[i] * image, image, scale_run, shift_run, period, y + i * image);
  });
}

}  // namespace fastnn::FASTNN_TABLE
