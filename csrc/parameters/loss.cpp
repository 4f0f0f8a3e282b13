#include "loss.h"

#include "checks.h"

namespace fastnn {

namespace {

void expect_classes(const char* what, const char* name, const Shape& x) {
  if (x.rank != 2) refuse(what, " expects ", name, " of shape (N, C), got ", x);
  if (x.d[1] < 1) refuse(what, ": ", name, " ", x, " have no classes");
}

void expect_smoothing(const char* what, double smoothing) {
  if (!(smoothing >= 0 && smoothing <= 1)) refuse(what, ": label_smoothing must lie in [0, 1], got ", smoothing);
}

Shape reduced(Reduction reduction, const Shape& each) { return reduction == Reduction::none ? each : Shape{}; }

}  // namespace

CrossEntropy::CrossEntropy(Shape logits, double smoothing_, int64_t ignore, Reduction reduction_)
    : ignore_index(ignore), smoothing(smoothing_), reduction(reduction_) {
  expect_classes("cross_entropy", "logits", logits);
  expect_smoothing("cross_entropy", smoothing);
  N = logits.d[0], C = logits.d[1];
}
Shape CrossEntropy::x_shape() const { return shape_of(N, C); }
Shape CrossEntropy::n_shape() const { return shape_of(N); }
Shape CrossEntropy::c_shape() const { return shape_of(C); }
Shape CrossEntropy::loss_shape() const { return reduced(reduction, shape_of(N)); }
Shape CrossEntropy::scalar_shape() const { return shape_of(); }

SoftCrossEntropy::SoftCrossEntropy(Shape logits, double smoothing_, Reduction reduction_) : smoothing(smoothing_), reduction(reduction_) {
  expect_classes("cross_entropy", "logits", logits);
  expect_smoothing("cross_entropy", smoothing);
  N = logits.d[0], C = logits.d[1];
}
Shape SoftCrossEntropy::x_shape() const { return shape_of(N, C); }
Shape SoftCrossEntropy::n_shape() const { return shape_of(N); }
Shape SoftCrossEntropy::c_shape() const { return shape_of(C); }
Shape SoftCrossEntropy::loss_shape() const { return reduced(reduction, shape_of(N)); }

MultiMargin::MultiMargin(Shape scores, int p_, double margin_, double scale_, Reduction reduction_)
    : p(p_), margin(margin_), scale(scale_), reduction(reduction_) {
  expect_classes("multi_margin", "scores", scores);
  if (p != 1 && p != 2) refuse("multi_margin: p must be 1 or 2, got ", p);
  N = scores.d[0], C = scores.d[1];
}
Shape MultiMargin::x_shape() const { return shape_of(N, C); }
Shape MultiMargin::n_shape() const { return shape_of(N); }
Shape MultiMargin::c_shape() const { return shape_of(C); }
Shape MultiMargin::loss_shape() const { return reduced(reduction, shape_of(N)); }

ElementLoss::ElementLoss(Shape s_, double width_, double curve_, double slope_, Reduction reduction_)
    : n(count(s_)), width(width_), curve(curve_), slope(slope_), reduction(reduction_), s(s_) {}
Shape ElementLoss::shape() const { return s; }
Shape ElementLoss::loss_shape() const { return reduced(reduction, s); }

BinaryCrossEntropy::BinaryCrossEntropy(Shape s_, Reduction reduction_) : n(count(s_)), reduction(reduction_), s(s_) {}
Shape BinaryCrossEntropy::shape() const { return s; }
Shape BinaryCrossEntropy::loss_shape() const { return reduced(reduction, s); }

Penalty::Penalty(int64_t count_, double l1_, double l2_) : count(count_), l1(l1_), l2(l2_) {}
Shape Penalty::sizes() const { return shape_of(count); }
Shape Penalty::scalar_shape() const { return shape_of(); }

}  // namespace fastnn
