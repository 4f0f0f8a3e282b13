// Gaussian noise on the finished pixels of a sample.
#pragma once
#include "gaussian.h"
#include "paint.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t words_at_once = 4 * blocks_at_once;
static_assert(words_at_once % (2 * N_LANES) == 0);

struct Grain {  // for the values of a run: how much of z is added to each, and within what it stays
  R by[most_values], low[most_values], high[most_values];

  INLINE void set(const Augment& s, int64_t first, int64_t count, R deviation, const R* scale, const R* shift) {
    for (int64_t i = 0; i < count; i++) {
      const int64_t c = (first + i) % s.C;
      const R black = shift[c], white = scale[c] * 255 + shift[c];
      by[i] = deviation * scale[c], low[i] = black < white ? black : white, high[i] = black < white ? white : black;
    }
  }
  INLINE void add(const R* __restrict z, T* __restrict y, int64_t count) const {
    for (int64_t i = 0; i < count; i++) {
      const R noisy = R(y[i]) + by[i] * z[i];
      y[i] = T(noisy < low[i] ? low[i] : noisy > high[i] ? high[i] : noisy);
    }
  }
};

// stream: (seed, draw, block) of the sample
void add_noise(const Augment& s, R deviation, const i64* stream, const R* scale, const R* shift, T* y) {
  const int64_t n = s.P * s.Q * s.C, cycle = 4 * s.C;  // a run begins with a pixel and with a block, if it can
  const bool alike = cycle <= most_values;
  const int64_t run = alike ? most_values / cycle * cycle : most_values;
  Grain grain;
  uint32_t words[most_values + words_at_once];
  R z[most_values + words_at_once];
  for (int64_t first = 0; first < n; first += run) {
    const int64_t count = smaller(run, n - first);
    if (first == 0 || !alike) grain.set(s, first, count, deviation, scale, shift);
    for (int64_t i = 0; i < count; i += words_at_once)
      philox_blocks(uint64_t(stream[0]), uint64_t(stream[2] + (first + i) / 4), uint64_t(stream[1]), purpose_noise, words + i);
    for (int64_t i = 0; i < count; i += 2 * N_LANES) gaussian_numbers(words + i, z + i);
    grain.add(z, y + first, count);
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
