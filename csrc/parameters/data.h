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

// y[i, c, p, q] = scale[c] v_c + shift[c], v being the C values of image index[i] at a place that map[i] gives:
//   (top, left, step)         row top + p, column left + step q; a step of -1 mirrors
//   warped: six numbers m     row (m0 p + m1 q + m2) / 2^32, column (m3 p + m4 q + m5) / 2^32, and between pixels the bilinear mean of four
// Border::constant: what lies outside of the image counts as fill[c] in y, a mean by its weight.
// colour[i], (C, 2C + 1) = (A, B, t): v becomes A v + B m + t, m the image's mean, and stays within 0 ... 255.
// bent[i] = (m0 ... m8, k1, k2): where m6, m7, m8 are not 0, 0, 1 or a k is not 0, map[i] does not count, but
//   row (m0 p + m1 q + m2) / (m6 p + m7 q + m8), column (m3 p + m4 q + m5) / (m6 p + m7 q + m8), in pixels, and then a lens: the distance r
//   from the middle of the image, half its diagonal being 1, becomes r (1 + k1 t^2 + k2 t^4), t = min(r, 1)
// deviation[i]: the values of y get that many times scale[c] z, z Gaussian, and stay within what 0 ... 255 become. stream[i] = (seed, draw,
// block): value e of the sample, as it lies in memory, has word e of the stream that begins with this block of Philox, in pairs as Noise
// has them. box[i] = (top, left, height, width): the pixels of y that are erased[c], after all that.
struct Augment {
  int64_t n, batch, C, H, W, P, Q;
  Border border;
  bool warped, coloured;
  Shape source;
  Augment(Shape source, int64_t batch, Pair size, Border border, bool warped, bool coloured);
  Shape source_shape() const, index_shape() const, map_shape() const, c_shape() const, colour_shape() const, box_shape() const,
      bent_shape() const, stream_shape() const, y_shape() const;
};

struct Random {  // bits[i] = 32-bit word i of Philox(seed = state[0]; draw = state[1] + draw, purpose)
  int64_t n, draw, purpose;
  Random(int64_t n, int64_t draw, int64_t purpose);
  Shape state_shape() const, shape() const;
};

}  // namespace fastnn
