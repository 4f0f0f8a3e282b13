#include "optim.h"

#include "checks.h"

namespace fastnn {

Update::Update(int64_t n, int64_t g, int64_t p) : count(n), groups(g), pieces(p) {}
Shape Update::sizes() const { return shape_of(count); }
Shape Update::each() const { return shape_of(count); }
Shape Update::moved_shape() const { return shape_of(pieces, 2); }

SGD::SGD(int64_t n, int64_t g, int64_t p) : Update(n, g, p) {}
Shape SGD::rates_shape() const { return shape_of(groups, 6); }

Adam::Adam(int64_t n, int64_t g, int64_t p) : Update(n, g, p) {}
Shape Adam::rates_shape() const { return shape_of(groups, 8); }

Adagrad::Adagrad(int64_t n, int64_t g, int64_t p) : Update(n, g, p) {}
Shape Adagrad::rates_shape() const { return shape_of(groups, 5); }

RMSprop::RMSprop(int64_t n, int64_t g, int64_t p) : Update(n, g, p) {}
Shape RMSprop::rates_shape() const { return shape_of(groups, 7); }

Muon::Muon(int64_t n, int64_t g, int64_t p, int64_t rows_, int64_t columns_, int64_t steps_, double a_, double b_, double c_)
    : Update(n, g, p),
      rows(rows_),
      columns(columns_),
      steps(steps_),
      a(a_),
      b(b_),
      c(c_),
      tall(rows > columns),
      small(tall ? columns : rows),
      gram(shape_of(n, rows, columns), shape_of(n, rows, columns), tall, !tall),
      square(shape_of(n, small, small), shape_of(n, small, small), false, false),
      product(tall ? shape_of(n, rows, columns) : shape_of(n, small, small), tall ? shape_of(n, small, small) : shape_of(n, rows, columns),
              false, false) {
  if (rows < 1 || columns < 1) refuse("Muon: a matrix of ", rows, " x ", columns, " has no elements");
}
Shape Muon::matrices() const { return shape_of(count, rows * columns); }
Shape Muon::rates_shape() const { return shape_of(groups, 7); }

ParameterList::ParameterList(int64_t n) : count(n) {}
Shape ParameterList::sizes() const { return shape_of(count); }
Shape ParameterList::scalar_shape() const { return shape_of(); }

}  // namespace fastnn
