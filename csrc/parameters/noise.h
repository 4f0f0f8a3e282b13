// Noise drawn from Philox while the kernel runs. The draw is state[1] + draw; an element's place in the stream counts from `offset`, where
// the array begins in the whole batch.
#pragma once
#include "basics.h"

namespace fastnn {

// y[i] = scale x[i] where word(i) >= threshold, else 0; threshold = round(p 2^32), scale = 1 / (1 - p), or 1 where not inverted.
// word(i) is word i % 4 of Philox block i / 4 (+ offset); i counts elements as they lie in memory.
struct Dropout {
  int64_t n, draw, offset;
  double scale;
  uint64_t threshold;
  Shape s;
  Dropout(Shape s, double p, int64_t draw, int64_t offset, bool inverted);
  Shape shape() const, state_shape() const;
};

// The same with one word for many elements: x lies as outer x inner x columns, and element (o, i, c) takes word o columns + c. `unit` says
// what is dropped as a whole: "channel" of a sample, "sample" or "batch".
struct GroupDropout {
  int64_t outer, inner, columns, draw, offset;
  double scale;
  uint64_t threshold;
  Shape s;
  GroupDropout(Shape s, int unit, double p, int64_t draw, int64_t offset, bool inverted);
  Shape shape() const, state_shape() const;
};

// y[i] = x[i] + std z[i], z Gaussian (Box, Muller 1958): elements 2 j and 2 j + 1 are radius times cosine and sine, the radius from word
// 2 j (its upper 23 bits), the angle from word 2 j + 1.
struct Noise {
  int64_t n, draw, offset;
  double std;
  Shape s;
  Noise(Shape s, double std, int64_t draw, int64_t offset);
  Shape shape() const, state_shape() const;
};

}  // namespace fastnn
