// Gaussian numbers out of words of Philox (Box, Muller 1958).
#pragma once
#include "math.h"
#include "philox.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// 2 N_LANES Gaussian numbers from as many words: the turned cosines and sines of functions.h, without a branch
INLINE void gaussian_numbers(const uint32_t* words, real* z) {
  constexpr int to_sign = 8 * int(sizeof(integer)) - 2;
  real uniform[N_LANES], rest[N_LANES], first[N_LANES], second[N_LANES];
  integer quarters[N_LANES];
  for (int i = 0; i < N_LANES; i++) {
    uniform[i] = uniform_of(words[2 * i]), rest[i] = rest_of(words[2 * i + 1]);
    quarters[i] = integer(quarter_of(words[2 * i + 1]));
  }
  ivec quarter;
  __builtin_memcpy(&quarter, quarters, sizeof quarter);
  const vec radius = radius_of(load(uniform));
  const Circle c = circle(load(rest));
  const vec cosine = radius * c.cosine, sine = radius * c.sine;
  const ivec odd = (quarter & 1) != 0;
  store(first, vec(ivec(select(odd, sine, cosine)) ^ (((quarter + 1) & 2) << to_sign)));
  store(second, vec(ivec(select(odd, cosine, sine)) ^ ((quarter & 2) << to_sign)));
  for (int i = 0; i < N_LANES; i++) z[2 * i] = first[i], z[2 * i + 1] = second[i];
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
