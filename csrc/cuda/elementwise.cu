// exp, log, sqrt, powers, and sums, differences, products and quotients with broadcasting.
#include "elements.cuh"
#include "math.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Exp {
  __device__ __forceinline__ float operator()(float x) const { return exp(x); }
};
struct Log {
  __device__ __forceinline__ float operator()(float x) const { return logf(fabsf(x) < smallest_normal ? 0 : x); }
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
  __device__ __forceinline__ float operator()(float x) const { return powf(x, exponent); }
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

template <class F>
void broadcast(const Context& context, const Binary& s, const F& f, const T* a, const T* b, T* y) {
  int64_t y_stride[max_rank], n = 1;
  for (int d = s.rank - 1; d >= 0; d--) y_stride[d] = n, n *= s.dims[d];
  Space<3> space;
  for (int d = 0; d < s.rank; d++) space.add(s.dims[d], {y_stride[d], s.a_stride[d], s.b_stride[d]});
  map_strided(context, space, f, y, a, b);
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

}  // namespace fastnn::FASTNN_TABLE
