// Gaussian noise on the finished pixels of a sample.
#pragma once
#include "gaussian.h"
#include "paint.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t words_at_once = 4 * blocks_at_once;
static_assert(words_at_once % (2 * N_LANES) == 0);

struct SampleNoise {  // of a sample; no deviation: none
  R deviation;
  const i64* stream;  // seed, draw, first block
  const R *scale, *shift;

  // 0 ... words_at_once - 1 from value `first`, a multiple of four, on
  INLINE void draw(int64_t first, R* z) const {
    uint32_t words[words_at_once];
    philox_blocks(uint64_t(stream[0]), uint64_t(stream[2] + first / 4), uint64_t(stream[1]), purpose_noise, words);
    for (int64_t i = 0; i < words_at_once; i += 2 * N_LANES) gaussian_numbers(words + i, z + i);
  }
};

struct Grain {  // of a channel: how much of z is added, and within what the value stays
  R by, low, high;
  INLINE Grain(const SampleNoise& noise, int64_t c) {
    const R black = noise.shift[c], white = noise.scale[c] * 255 + black;
    by = noise.deviation * noise.scale[c], low = black < white ? black : white, high = black < white ? white : black;
  }
};
INLINE R noisy(R y, R z, R by, R low, R high) {
  const R sum = y + by * z;
  return sum < low ? low : sum > high ? high : sum;
}

// For a run of values
struct Grains {
  R by[most_values], low[most_values], high[most_values];

  INLINE void set(const Augment& s, const SampleNoise& noise, int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
      const Grain grain(noise, (first + i) % s.C);
      by[i] = grain.by, low[i] = grain.low, high[i] = grain.high;
    }
  }
  INLINE void add(const R* __restrict z, T* __restrict y, int64_t count) const {
    for (int64_t i = 0; i < count; i++) y[i] = T(noisy(R(y[i]), z[i], by[i], low[i], high[i]));
  }
};

// To a finished sample. Apart: its arrays would be room on the stack that samples without noise set aside, too.
__attribute__((noinline)) void add_noise(const Augment& s, const SampleNoise& noise, T* y) {
  const int64_t n = s.P * s.Q * s.C, cycle = 4 * s.C;  // a run begins with a pixel and with a block, if it can
  const bool alike = cycle <= most_values;
  const int64_t run = alike ? most_values / cycle * cycle : most_values;
  Grains grains;
  R z[most_values + words_at_once];
  for (int64_t first = 0; first < n; first += run) {
    const int64_t count = smaller(run, n - first);
    if (first == 0 || !alike) grains.set(s, noise, first, count);
    for (int64_t i = 0; i < count; i += words_at_once) noise.draw(first + i, z + i);
    grains.add(z, y + first, count);
  }
}

// Where storage rounds: pixel by pixel, so that what has its noise is rounded once. spot(p, q): what a pixel shows
template <class Painter, class At>
void write_noisy(const Augment& s, const u8* image, const T* fill, const Painter& paint, const SampleNoise& noise, const At& spot, T* to) {
  R values[most_values], z[words_at_once];
  int64_t e = 0;
  for (int64_t p = 0; p < s.P; p++)
    for (int64_t q = 0; q < s.Q; q++)
      for (int64_t begin = 0; begin < s.C; begin += most_values) {
        paint.pixel(s, image, spot(p, q), fill, values, begin, most_values);
        for (int64_t c = begin; c < smaller(s.C, begin + most_values); c++, e++) {
          if (e % words_at_once == 0) noise.draw(e, z);
          const Grain grain(noise, c);
          to[e] = T(noisy(values[c - begin], z[e % words_at_once], grain.by, grain.low, grain.high));
        }
      }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
