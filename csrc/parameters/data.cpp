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

Random::Random(int64_t n_, int64_t draw_, int64_t purpose_) : n(n_), draw(draw_), purpose(purpose_) {
  if (n < 0) refuse("random_bits: n must not be negative, got ", n);
}
Shape Random::state_shape() const { return shape_of(2); }
Shape Random::shape() const { return shape_of(n); }

}  // namespace fastnn
