#include "loss.h"

#include "checks.h"

namespace fastnn {

CrossEntropy::CrossEntropy(Shape logits, double smoothing_, int64_t ignore, int reduction_)
    : ignore_index(ignore), smoothing(smoothing_), reduction(Reduction(reduction_)) {
  if (logits.rank != 2) refuse("cross_entropy expects logits of shape (N, C), got ", logits);
  if (!(smoothing >= 0 && smoothing <= 1)) refuse("cross_entropy: label_smoothing must lie in [0, 1], got ", smoothing);
  N = logits.d[0], C = logits.d[1];
  if (C < 1) refuse("cross_entropy: logits ", logits, " have no classes");
}
Shape CrossEntropy::x_shape() const { return shape_of(N, C); }
Shape CrossEntropy::n_shape() const { return shape_of(N); }
Shape CrossEntropy::c_shape() const { return shape_of(C); }
Shape CrossEntropy::loss_shape() const { return reduction == none ? shape_of(N) : shape_of(); }
Shape CrossEntropy::scalar_shape() const { return shape_of(); }

}  // namespace fastnn
