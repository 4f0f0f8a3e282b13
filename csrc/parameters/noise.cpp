#include "noise.h"

#include "checks.h"

namespace fastnn {
namespace {

uint64_t threshold_of(const char* what, double p) {
  if (!(p >= 0 && p <= 1)) refuse(what, ": p must lie in [0, 1], got ", p);
  return uint64_t(std::llround(p * 4294967296.0));
}

double scale_of(double p, bool inverted) {
  if (!inverted) return 1;
  return p < 1 ? 1 / (1 - p) : 0;
}

}  // namespace

Dropout::Dropout(Shape s_, double p, int64_t draw_, int64_t offset_, bool inverted)
    : n(count(s_)), draw(draw_), offset(offset_), scale(scale_of(p, inverted)), threshold(threshold_of("dropout", p)), s(s_) {}
Shape Dropout::shape() const { return s; }
Shape Dropout::state_shape() const { return shape_of(2); }

GroupDropout::GroupDropout(Shape s_, int unit, double p, int64_t draw_, int64_t offset_, bool inverted)
    : outer(1),
      inner(1),
      columns(1),
      draw(draw_),
      offset(offset_),
      scale(scale_of(p, inverted)),
      threshold(threshold_of("dropout", p)),
      s(s_) {
  if (s.rank < (unit == 0 ? 2 : 1))
    refuse("dropout of whole ", unit == 0 ? "channels" : "samples", " needs a batch of them, got shape ", s);
  const int64_t n = count(s);
  if (unit == 0 && s.rank == 4)
    outer = s.d[0], columns = s.d[1], inner = s.d[2] * s.d[3];
  else if (unit == 0)
    outer = s.d[0] * s.d[1], inner = outer ? n / outer : 0;
  else if (unit == 1)
    outer = s.d[0], inner = outer ? n / outer : 0;
  else
    inner = n;
}
Shape GroupDropout::shape() const { return s; }
Shape GroupDropout::state_shape() const { return shape_of(2); }

Noise::Noise(Shape s_, double std_, int64_t draw_, int64_t offset_) : n(count(s_)), draw(draw_), offset(offset_), std(std_), s(s_) {
  if (!(std >= 0)) refuse("gaussian_noise: std must not be negative, got ", std);
}
Shape Noise::shape() const { return s; }
Shape Noise::state_shape() const { return shape_of(2); }

}  // namespace fastnn
