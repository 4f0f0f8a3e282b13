// Runs of pixels, as bytes or numbers, become results: normalised, or coloured first (Augment says how).
#pragma once
#include "../border.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_values = 960;    // of a run, a multiple of 3 and of every vector: so many that what is read was written long ago
constexpr int64_t warped_values = 192;  // of one whose places are looked up: a run that is partly outside takes longer

// Scale and shift for a run of `pixels` pixels
struct Normal {
  int64_t pixels;
  const R *scale, *shift;
};

// A place between pixels: the four around it, and how much of it lies inside of the image.
struct Spot {
  Between h, w;
  INLINE bool mixed() const { return smaller(smaller(h.first, h.second), smaller(w.first, w.second)) < 0; }
};

// Channel c at a spot; what lies outside counts as 0.
INLINE R value_at(const Augment& s, const u8* image, const Spot& spot, int64_t c) {
  const auto at = [&](int64_t h, int64_t w) { return h < 0 || w < 0 ? R(0) : R(image[(h * s.W + w) * s.C + c]); };
  return mean_of_four(at(spot.h.first, spot.w.first), at(spot.h.first, spot.w.second), at(spot.h.second, spot.w.first),
                      at(spot.h.second, spot.w.second), part_of<R>(spot.h), part_of<R>(spot.w));
}
INLINE R share_inside(const Spot& spot) {
  const auto at = [](int64_t h, int64_t w) { return h < 0 || w < 0 ? R(0) : R(1); };
  return mean_of_four(at(spot.h.first, spot.w.first), at(spot.h.first, spot.w.second), at(spot.h.second, spot.w.first),
                      at(spot.h.second, spot.w.second), part_of<R>(spot.h), part_of<R>(spot.w));
}

// Whether all four neighbours of a place (in 2^-32 of a pixel) lie inside: then none of them needs a look at the border
INLINE bool is_inside(const Augment& s, int64_t h, int64_t w) { return h >= 0 && w >= 0 && h >> 32 < s.H - 1 && w >> 32 < s.W - 1; }

// The values of such a place; channels 0: as many as there are
template <int channels>
INLINE void mean_inside(const Augment& s, const u8* image, int64_t h, int64_t w, R* values) {
  const int64_t C = channels ? channels : s.C, line = s.W * C;
  const u8* from = image + (h >> 32) * line + (w >> 32) * C;
  const R down = R(int32_t(uint32_t(h) >> 8)) * R(1.0 / (1 << 24)), right = R(int32_t(uint32_t(w) >> 8)) * R(1.0 / (1 << 24));
  for (int64_t c = 0; c < C; c++)
    values[c] = mean_of_four(R(from[c]), R(from[C + c]), R(from[line + c]), R(from[line + C + c]), down, right);
}

// y = scale x + shift
struct Plain {
  Normal normal;

  template <class E>
  INLINE void run(const E* __restrict from, T* __restrict to, int64_t n) const {  // n values, at most the run's length
    const R* __restrict scale = normal.scale, * __restrict shift = normal.shift;
    for (int64_t i = 0; i < n; i++) to[i] = T(scale[i] * R(from[i]) + shift[i]);
  }
  // A pixel; or only its channels `begin` to `begin` + `most` - 1
  template <class Y>
  INLINE void pixel(const Augment& s, const u8* image, const Spot& spot, const T* fill, Y* to, int64_t begin, int64_t most) const {
    const R share = share_inside(spot);
    for (int64_t c = begin; c < smaller(s.C, begin + most); c++) {
      const R inside = normal.scale[c] * value_at(s, image, spot, c) + share * normal.shift[c];
      to[c - begin] = Y(share == 0 ? R(fill[c]) : share == 1 ? inside : inside + (1 - share) * R(fill[c]));
    }
  }
  INLINE void pixel(const Augment& s, const u8* image, const Spot& spot, const T* fill, T* to) const {
    pixel(s, image, spot, fill, to, 0, s.C);
  }
};

INLINE R within_byte(R x, R most) { return x > most ? most : x > 0 ? x : 0; }

// y = scale clamp(A x + o) + shift for C channels side by side: value j of a run takes part in those C - 1 before and behind it, by
// coefficients that repeat every `period` values and are 0 across the border of a pixel.
template <int C>
struct Coloured {
  static constexpr int64_t period = 48, around = C - 1;  // of all vectors, and of 3
  Normal normal;
  R tap[2 * C - 1][period], offset[period], matrix[C][C];

  // colour: (C, 2C + 1) of a sample, mean: that of its image
  Coloured(const Normal& normal, const R* colour, const R* mean) : normal(normal) {
    for (int64_t c = 0; c < C; c++) {
      const R* row = colour + c * (2 * C + 1);
      offset[c] = row[2 * C];
      for (int64_t k = 0; k < C; k++) matrix[c][k] = row[k], offset[c] += row[C + k] * mean[k];
    }
    for (int64_t j = 0; j < period; j++) {
      const int64_t c = j % C;
      offset[j] = offset[c];
      for (int64_t t = 0; t < 2 * C - 1; t++) {
        const int64_t k = c + t - around;
        tap[t][j] = k >= 0 && k < C ? matrix[c][k] : 0;
      }
    }
  }

  template <class E>
  INLINE void run(const E* __restrict from, T* __restrict to, int64_t n) const {
    R x[most_values + 2 * around + N_LANES];
    for (int64_t i = 0; i < around; i++) x[i] = 0;
    for (int64_t i = 0; i < n; i++) x[around + i] = R(from[i]);
    for (int64_t i = n; i < n + around + N_LANES; i++) x[around + i] = 0;
    for (int64_t j = 0; j < smaller(period, n); j += N_LANES) {  // the same coefficients for every period: they stay in registers
      const vec start = load(offset + j), scale = load(normal.scale + j), shift = load(normal.shift + j);
      vec by[2 * C - 1];
      UNROLL for (int t = 0; t < 2 * C - 1; t++) by[t] = load(tap[t] + j);
      for (int64_t i = j; i < n; i += period) {
        vec sum = start;
        UNROLL for (int t = 0; t < 2 * C - 1; t++) sum = fma(by[t], load(x + i + t), sum);
        const vec y = scale * min(max(sum, zero()), set(255)) + shift;
        if (i + N_LANES <= n)
          store(to + i, y);
        else
          store_n(to + i, int(n - i), y);
      }
    }
  }
  template <class Y>
  INLINE void pixel(const Augment& s, const u8* image, const Spot& spot, const T* fill, Y* to, int64_t = 0, int64_t = C) const {
    const R share = share_inside(spot);
    R x[C];
    for (int64_t c = 0; c < C; c++) x[c] = value_at(s, image, spot, c);
    for (int64_t c = 0; c < C; c++) {
      R sum = share * offset[c];
      for (int64_t k = 0; k < C; k++) sum += matrix[c][k] * x[k];
      const R inside = normal.scale[c] * within_byte(sum, 255 * share) + share * normal.shift[c];
      to[c] = Y(share == 0 ? R(fill[c]) : inside + (1 - share) * R(fill[c]));
    }
  }
};

// The mean of each channel: exact sums, divided once.
template <int C>
void image_mean(const u8* image, int64_t pixels, R* mean) {
  constexpr int64_t period = 48, most = 257;  // so many bytes have a sum of 16 bits
  const int64_t n = pixels * C;
  int64_t sums[C] = {}, first = 0;
  while (first + period <= n) {
    const int64_t times = smaller(most, (n - first) / period);
    uint16_t part[period] = {};
    for (int64_t i = 0; i < times; i++, first += period)
      for (int64_t j = 0; j < period; j++) part[j] = uint16_t(part[j] + image[first + j]);
    for (int64_t j = 0; j < period; j++) sums[j % C] += part[j];
  }
  for (; first < n; first++) sums[first % C] += image[first];
  for (int64_t c = 0; c < C; c++) mean[c] = R(double(sums[c]) / double(pixels));
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
