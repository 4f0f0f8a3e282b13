// Places of projective maps and of lenses: one by one, each with a division.
#pragma once
#include "paint.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE Spot spot_of(const Augment& s, const Place& at) { return {between(at.h, s.H, s.border), between(at.w, s.W, s.border)}; }

// The values of `count` places; whether one of them has a neighbour outside, which may be the fill
template <int channels>
INLINE bool sample_places(const Augment& s, const u8* image, const Place* places, int64_t count, R* values) {
  const int64_t C = channels ? channels : s.C;
  bool beside = false;
  for (int64_t i = 0; i < count; i++, values += C) {
    const Place at = places[i];
    if (is_inside(s, at.h, at.w)) {
      mean_inside<channels>(s, image, at.h, at.w, values);
    } else {
      const Spot spot = spot_of(s, at);
      for (int64_t c = 0; c < C; c++) values[c] = value_at(s, image, spot, c);
      beside = true;
    }
  }
  return beside;
}

// Apart: its arrays would be room on the stack that other samples set aside, too
template <class Painter>
__attribute__((noinline)) void write_bent(const Augment& s, const u8* image, const Bend& bend, const T* fill, const Painter& paint, T* to) {
  const int64_t pixels = larger(1, warped_values / s.C);
  Place places[warped_values];
  R values[most_values];
  for (int64_t p = 0; p < s.P; p++)
    for (int64_t q = 0; q < s.Q; q += pixels) {
      const int64_t count = smaller(pixels, s.Q - q);
      T* run = to + (p * s.Q + q) * s.C;
      for (int64_t i = 0; i < count; i++) places[i] = bend.place(p, q + i);
      if (s.C > most_values) {
        paint.pixel(s, image, spot_of(s, places[0]), fill, run);
        continue;
      }
      const bool beside = s.C == 3   ? sample_places<3>(s, image, places, count, values)
                          : s.C == 1 ? sample_places<1>(s, image, places, count, values)
                                     : sample_places<0>(s, image, places, count, values);
      paint.run(values, run, count * s.C);
      if (!beside || s.border != Border::constant) continue;
      for (int64_t i = 0; i < count; i++) {
        const Spot spot = spot_of(s, places[i]);
        if (spot.mixed()) paint.pixel(s, image, spot, fill, run + i * s.C);
      }
    }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
