#include "data.h"

#include "checks.h"

namespace fastnn {

Gather::Gather(Shape source_, int64_t batch_) : batch(batch_), source(source_) {
  if (source.rank != 2 && source.rank != 4) refuse("gather_normalize expects a source of shape (n, C) or (n, C, H, W), got ", source);
  n = source.d[0], C = source.d[1];
  pixels = source.rank == 2 ? 1 : source.d[2] * source.d[3];
}
Shape Gather::source_shape() const { return source; }
Shape Gather::index_shape() const { return shape_of(batch); }
Shape Gather::c_shape() const { return shape_of(C); }
Shape Gather::y_shape() const {
  Shape y = source;
  y.d[0] = batch;
  return y;
}

Augment::Augment(Shape source_, int64_t batch_, Pair size, Border border_, bool warped_, bool coloured_)
    : batch(batch_), P(size.h), Q(size.w), border(border_), warped(warped_), coloured(coloured_), source(source_) {
  expect_rank("gather_augment", source, 4, "(n, C, H, W)");
  expect_positive("gather_augment", "size", size);
  n = source.d[0], C = source.d[1], H = source.d[2], W = source.d[3];
  if (C * H * W == 0) refuse("gather_augment: images of shape ", source, " have no pixels");
  if (coloured && C != 1 && C != 3) refuse("gather_augment: colours are those of images of 1 or 3 channels, these have ", C);
}
Shape Augment::source_shape() const { return source; }
Shape Augment::index_shape() const { return shape_of(batch); }
Shape Augment::map_shape() const { return shape_of(batch, warped ? 6 : 3); }
Shape Augment::c_shape() const { return shape_of(C); }
Shape Augment::colour_shape() const { return coloured ? shape_of(batch, C, 2 * C + 1) : shape_of(0); }
Shape Augment::box_shape() const { return shape_of(batch, 4); }
Shape Augment::bent_shape() const { return shape_of(batch, 11); }
Shape Augment::stream_shape() const { return shape_of(batch, 3); }
Shape Augment::y_shape() const { return shape_of(batch, C, P, Q); }

Random::Random(int64_t n_, int64_t draw_, int64_t purpose_) : n(n_), draw(draw_), purpose(purpose_) {
  if (n < 0) refuse("random_bits: n must not be negative, got ", n);
}
Shape Random::state_shape() const { return shape_of(2); }
Shape Random::shape() const { return shape_of(n); }

}  // namespace fastnn
