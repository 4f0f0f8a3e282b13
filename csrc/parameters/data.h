// Batches out of data sets, and random bits.
#pragma once
#include "basics.h"

namespace fastnn {

// y[i, c, h, w] = scale[c] source[index[i], c, h, w] + shift[c]; rank 4, or rank 2 (rows of C features)
struct Gather {
  int64_t n, batch, C, pixels;  // n images in source; pixels = H W (1 for rank 2)
  Shape source;
  Gather(Shape source, int64_t batch);
  Shape source_shape() const, index_shape() const, c_shape() const, y_shape() const;
};

// What an image shows outside of itself: one colour, its outermost pixels, or itself mirrored about the middle of these.
enum class Border : int { constant, edge, reflect };

// y[i, c, p, q] = scale[c] source[index[i], c, top + p, left + step q] + shift[c] with (top, left, step) = map[i]; a step of -1 mirrors.
// Border::constant: fill[c] where that lies outside of the image.
struct Augment {
  int64_t n, batch, C, H, W, P, Q;
  Border border;
  Shape source;
  Augment(Shape source, int64_t batch, Pair size, Border border);
  Shape source_shape() const, index_shape() const, map_shape() const, c_shape() const, y_shape() const;
};

struct Random {  // bits[i] = 32-bit word i of Philox(seed = state[0]; draw = state[1] + draw, purpose)
  int64_t n, draw, purpose;
  Random(int64_t n, int64_t draw, int64_t purpose);
  Shape state_shape() const, shape() const;
};

}  // namespace fastnn
