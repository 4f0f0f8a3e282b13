// Gaussian numbers out of words of Philox (Box, Muller 1958).
#pragma once
#include "../random.h"
#include "math.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Gaussian {
  float first, second;
};

INLINE Gaussian gaussian_pair(uint32_t word, uint32_t next) {
  const float radius = radius_of(uniform_of(word));
  const Circle c = circle(rest_of(next));
  const uint32_t quarter = quarter_of(next);
  const float cosine = radius * c.cosine, sine = radius * c.sine;
  return {turned_cosine(cosine, sine, quarter), turned_sine(cosine, sine, quarter)};
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
