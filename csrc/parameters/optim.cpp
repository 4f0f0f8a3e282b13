#include "optim.h"

#include "checks.h"

namespace fastnn {

SGD::SGD(int64_t n, int64_t g) : count(n), groups(g) {}
Shape SGD::sizes() const { return shape_of(count); }
Shape SGD::group_shape() const { return shape_of(count); }
Shape SGD::rates_shape() const { return shape_of(groups, 4); }

Adam::Adam(int64_t n, int64_t g) : count(n), groups(g) {}
Shape Adam::sizes() const { return shape_of(count); }
Shape Adam::group_shape() const { return shape_of(count); }
Shape Adam::rates_shape() const { return shape_of(groups, 6); }
Shape Adam::scalar_shape() const { return shape_of(); }

}  // namespace fastnn
