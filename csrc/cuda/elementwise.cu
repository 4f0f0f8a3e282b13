// exp, log, sqrt, powers; sums, differences, products, quotients, comparisons and choices with broadcasting.
#include "elements.cuh"
#include "math.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Exp {
  __device__ __forceinline__ float operator()(float x) const { return exp(x); }
};
struct Log {
  __device__ __forceinline__ float operator()(float x) const { return log(x); }
};
struct SquareRoot {
  __device__ __forceinline__ float operator()(float x) const { return sqrtf(x); }
};

// --- powers

struct Square {
  __device__ __forceinline__ float operator()(float x) const { return x * x; }
};
struct Cube {
  __device__ __forceinline__ float operator()(float x) const { return x * x * x; }
};
struct Inverse {
  __device__ __forceinline__ float operator()(float x) const { return 1 / x; }
};
struct InverseSquareRoot {
  __device__ __forceinline__ float operator()(float x) const { return 1 / sqrtf(x); }
};
struct InverseSquare {  // x * x may overflow where the result does not
  __device__ __forceinline__ float operator()(float x) const { return (1 / x) * (1 / x); }
};
struct AnyPower {
  float exponent;
  __device__ __forceinline__ float operator()(float x) const { return powf(x == 0 ? copysignf(0, x) : x, exponent); }  // a denormal is 0
};

// --- two operands

struct Add {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct Subtract {
  __device__ __forceinline__ float operator()(float a, float b) const { return a - b; }
};
struct Multiply {
  __device__ __forceinline__ float operator()(float a, float b) const { return a * b; }
};
struct Divide {
  __device__ __forceinline__ float operator()(float a, float b) const { return a / b; }
};

struct Maximum {  // NaN wins
  __device__ __forceinline__ float operator()(float a, float b) const { return a != a ? a : max(a, b); }
};
struct Minimum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a != a ? a : min(a, b); }
};
struct PRelu {
  __device__ __forceinline__ float operator()(float a, float b) const { return a > 0 ? a : b * a; }
};
struct PReluSlope {
  __device__ __forceinline__ float operator()(float a, float b) const { return a > 0 ? 0 : b * a; }
};
struct PReluBackward {
  __device__ __forceinline__ float operator()(float dy, float a, float b) const { return a > 0 ? dy : b * dy; }
};
struct Choose {
  __device__ __forceinline__ float operator()(b8 condition, float a, float b) const { return condition ? a : b; }
};

template <Comparison comparison>
struct Compared {
  __device__ __forceinline__ b8 operator()(float a, float b) const {
    if constexpr (comparison == Comparison::equal) return a == b;
    if constexpr (comparison == Comparison::not_equal) return a != b;
    if constexpr (comparison == Comparison::less) return a < b;
    if constexpr (comparison == Comparison::less_equal) return a <= b;
    if constexpr (comparison == Comparison::greater) return a > b;
    return a >= b;
  }
};

// y and a, b, and between them arrays that lie as y does
template <int dense>
Space<3 + dense> space_of(const Binary& s) {
  int64_t y_stride[max_rank], n = 1;
  for (int d = s.rank - 1; d >= 0; d--) y_stride[d] = n, n *= s.dims[d];
  Space<3 + dense> space;
  for (int d = 0; d < s.rank; d++) {
    int64_t step[3 + dense];
    for (int i = 0; i <= dense; i++) step[i] = y_stride[d];
    step[1 + dense] = s.a_stride[d], step[2 + dense] = s.b_stride[d];
    space.add(s.dims[d], step);
  }
  return space;
}

// y = f(third, a, b), third lying as y does
template <class F, class Third>
void broadcast_with(const Context& context, const Binary& s, const F& f, const Third* third, const T* a, const T* b, T* y) {
  const Space<4> space = space_of<1>(s);
  if (space.is_dense()) return map_dense(context, space.count(), f, y, third, a, b);
  if (!lies_in_packs(space, y, third, a, b))
    return run_strided<1>(context, space, f, y, Along<1, Third>{third}, Along<2, T>{a}, Along<3, T>{b});
  const Either<2, T> left(a, space.inner_step(2));
  const Either<3, T> right(b, space.inner_step(3));
  run_strided<pack_width>(context, space.in_packs(pack_width), f, y, Along<1, Third>{third}, left, right);
}

template <Comparison comparison>
void compare_all(const Context& context, const Binary& s, const T* a, const T* b, b8* y) {
  const Space<3> space = space_of<0>(s);
  if (space.is_dense()) return map_dense(context, space.count(), Compared<comparison>{}, y, a, b);
  if (!lies_in_packs(space, y, a, b)) return run_strided<1>(context, space, Compared<comparison>{}, y, Along<1, T>{a}, Along<2, T>{b});
  const Either<1, T> left(a, space.inner_step(1));
  const Either<2, T> right(b, space.inner_step(2));
  run_strided<pack_width>(context, space.in_packs(pack_width), Compared<comparison>{}, y, left, right);
}

template <class F>
void broadcast(const Context& context, const Binary& s, const F& f, const T* a, const T* b, T* y) {
  map_strided(context, space_of<0>(s), f, y, a, b);
}

}  // namespace

void exp(const Context& context, const Elements& s, const T* x, T* y) { map_dense(context, s.n, Exp{}, y, x); }
void log(const Context& context, const Elements& s, const T* x, T* y) { map_dense(context, s.n, Log{}, y, x); }
void sqrt(const Context& context, const Elements& s, const T* x, T* y) { map_dense(context, s.n, SquareRoot{}, y, x); }

void power(const Context& context, const Power& s, const T* x, T* y) {
  const double exponent = s.exponent;
  if (exponent == 1) return map_dense(context, s.n, Itself{}, y, x);
  if (exponent == 2) return map_dense(context, s.n, Square{}, y, x);
  if (exponent == 3) return map_dense(context, s.n, Cube{}, y, x);
  if (exponent == 0.5) return map_dense(context, s.n, SquareRoot{}, y, x);
  if (exponent == -0.5) return map_dense(context, s.n, InverseSquareRoot{}, y, x);
  if (exponent == -1) return map_dense(context, s.n, Inverse{}, y, x);
  if (exponent == -2) return map_dense(context, s.n, InverseSquare{}, y, x);
  map_dense(context, s.n, AnyPower{float(exponent)}, y, x);
}

void add(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Add{}, a, b, y); }
void subtract(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Subtract{}, a, b, y); }
void multiply(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Multiply{}, a, b, y); }
void divide(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Divide{}, a, b, y); }
void maximum(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Maximum{}, a, b, y); }
void minimum(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, Minimum{}, a, b, y); }
void prelu_forward(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, PRelu{}, a, b, y); }
void prelu_slope(const Context& context, const Binary& s, const T* a, const T* b, T* y) { broadcast(context, s, PReluSlope{}, a, b, y); }

void prelu_backward(const Context& context, const Binary& s, const T* a, const T* b, const T* dy, T* da) {
  broadcast_with(context, s, PReluBackward{}, dy, a, b, da);
}

void where(const Context& context, const Binary& s, const b8* condition, const T* a, const T* b, T* y) {
  broadcast_with(context, s, Choose{}, condition, a, b, y);
}

void compare(const Context& context, const Compare& s, const T* a, const T* b, b8* y) {
  switch (s.comparison) {
    case Comparison::equal: return compare_all<Comparison::equal>(context, s, a, b, y);
    case Comparison::not_equal: return compare_all<Comparison::not_equal>(context, s, a, b, y);
    case Comparison::less: return compare_all<Comparison::less>(context, s, a, b, y);
    case Comparison::less_equal: return compare_all<Comparison::less_equal>(context, s, a, b, y);
    case Comparison::greater: return compare_all<Comparison::greater>(context, s, a, b, y);
    case Comparison::greater_equal: return compare_all<Comparison::greater_equal>(context, s, a, b, y);
  }
}

}  // namespace fastnn::FASTNN_TABLE
