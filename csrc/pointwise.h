// Functions applied element by element, forward and backward, for CPU and CUDA: value(x), and backward(kept, dy), which is the slope times
// dy, `kept` being x or the result, as it says. Another function is an enumerator of Function, its name in bind.h, and a struct here.
#pragma once

namespace fastnn::FASTNN_TABLE {
namespace {

struct Sigmoid {
  explicit Sigmoid(const Pointwise&) {}
  INLINE vec value(vec x) const { return logistic(x).value; }
  INLINE vec backward(vec y, vec dy) const { return dy * (y * (set(1) - y)); }
};

struct Tanh {
  explicit Tanh(const Pointwise&) {}
  INLINE vec value(vec x) const { return tanh(x); }
  INLINE vec backward(vec y, vec dy) const { return dy * ((set(1) - y) * (set(1) + y)); }
};

// a max(0, x), the slope at NaN being a. Kept may be x, or the result where a is positive, also one of which elements were dropped.
struct ScaledRelu {
  real a;
  explicit ScaledRelu(const Pointwise& s) : a(real(s.a)) {}
  INLINE vec value(vec x) const { return set(a) * max(zero(), x); }
  INLINE vec backward(vec kept, vec dy) const { return select(kept <= zero(), zero(), set(a) * dy); }
};

// a: the slope below 0. Kept may be x, or the result where a is not negative.
struct LeakyRelu {
  real a;
  explicit LeakyRelu(const Pointwise& s) : a(real(s.a)) {}
  INLINE vec value(vec x) const { return select(x > zero(), x, set(a) * x); }
  INLINE vec backward(vec kept, vec dy) const { return select(kept > zero(), dy, set(a) * dy); }
};

// a (e^x - 1) below 0, b x above. Kept is x.
struct Elu {
  real a, b;
  explicit Elu(const Pointwise& s) : a(real(s.a)), b(real(s.b)) {}
  INLINE vec value(vec x) const { return select(x < zero(), set(a) * expm1_below(min(x, zero())), set(b) * x); }
  INLINE vec backward(vec x, vec dy) const { return dy * select(x <= zero(), set(a) * exp(min(x, zero())), set(b)); }
};

struct Gelu {
  explicit Gelu(const Pointwise&) {}
  INLINE vec value(vec x) const { return gelu(x); }
  INLINE vec backward(vec x, vec dy) const { return dy * gelu_slope(x); }
};

struct GeluTanh {
  explicit GeluTanh(const Pointwise&) {}
  INLINE vec value(vec x) const { return gelu_tanh(x); }
  INLINE vec backward(vec x, vec dy) const { return dy * gelu_tanh_slope(x); }
};

// log(1 + e^(a x)) / a, and x itself where a x > b. Kept is x.
struct Softplus {
  real a, b, inverse;
  explicit Softplus(const Pointwise& s) : a(real(s.a)), b(real(s.b)), inverse(real(1 / s.a)) {}
  INLINE vec value(vec x) const {
    const vec z = set(a) * x;
    return select(z > set(b), x, softplus(z) * set(inverse));
  }
  INLINE vec backward(vec x, vec dy) const {
    const vec z = set(a) * x;
    return select(z > set(b), dy, dy * logistic(z).value);
  }
};

// Kept is x; the slope at 0 is 0.
struct Absolute {
  explicit Absolute(const Pointwise&) {}
  INLINE vec value(vec x) const { return absolute(x); }
  INLINE vec backward(vec x, vec dy) const { return select(x > zero(), dy, select(x < zero(), -dy, x * zero())); }
};

// At least a, then at most b; the slope is 1 on both bounds, and 0 of NaN. Kept is x.
struct Clip {
  real a, b;
  explicit Clip(const Pointwise& s) : a(real(s.a)), b(real(s.b)) {}
  INLINE vec value(vec x) const { return min(set(b), max(set(a), x)); }
  INLINE vec backward(vec x, vec dy) const { return select(set(a) <= x, select(x <= set(b), dy, zero()), zero()); }
};

// body(the function): the choice is made once, outside of every loop and every launch
template <class F>
void with_function(const Pointwise& s, const F& body) {
  switch (s.function) {
    case Function::sigmoid: return body(Sigmoid(s));
    case Function::tanh: return body(Tanh(s));
    case Function::scaled_relu: return body(ScaledRelu(s));
    case Function::leaky_relu: return body(LeakyRelu(s));
    case Function::elu: return body(Elu(s));
    case Function::gelu: return body(Gelu(s));
    case Function::gelu_tanh: return body(GeluTanh(s));
    case Function::softplus: return body(Softplus(s));
    case Function::abs: return body(Absolute(s));
    case Function::clip: return body(Clip(s));
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
