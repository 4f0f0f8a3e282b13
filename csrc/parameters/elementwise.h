// One element, or two that broadcast, at a time.
#pragma once
#include "basics.h"

namespace fastnn {

struct Elements {
  int64_t n;
  Shape s;
  explicit Elements(Shape s);
  Shape shape() const;
};

// Those of pointwise.h, with their two parameters
enum class Function : int { sigmoid, tanh, scaled_relu, leaky_relu, elu, gelu, gelu_tanh, softplus, abs, clip };

struct Pointwise {
  int64_t n;
  Function function;
  double a, b;
  Shape s;
  Pointwise(Shape s, Function function, double a, double b);
  Shape shape() const;
};

struct Power {  // y = x^exponent
  int64_t n;
  double exponent;
  Shape s;
  Power(Shape s, double exponent);
  Shape shape() const;
};

// Broadcasting y = a (op) b by numpy's rules. dims and strides are in memory order of y, outermost first, dimensions that run
// together already merged: element (i_0, ..., i_{rank-1}) of y is a[sum i_d a_stride_d] (op) b[sum i_d b_stride_d].
struct Binary {
  int rank;
  int64_t dims[max_rank] = {}, a_stride[max_rank] = {}, b_stride[max_rank] = {};
  Shape a, b, y;
  Binary(Shape a, Shape b);
  Shape a_shape() const, b_shape() const, y_shape() const;
};

enum class Comparison : int { equal, not_equal, less, less_equal, greater, greater_equal };

struct Compare : Binary {  // y = a (comparison) b with broadcasting
  Comparison comparison;
  Compare(Shape a, Shape b, Comparison comparison);
};

}  // namespace fastnn
