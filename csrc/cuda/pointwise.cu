// Functions of ../pointwise.h over whole arrays.
#include "elements.cuh"
#include "math.cuh"

#include "../pointwise.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class F>
struct Value {
  F f;
  __device__ __forceinline__ float operator()(float x) const { return f.value(x); }
};

template <class F>
struct Backward {
  F f;
  __device__ __forceinline__ float operator()(float kept, float dy) const { return f.backward(kept, dy); }
};

}  // namespace

void pointwise_forward(const Context& context, const Pointwise& s, const T* x, T* y) {
  with_function(s, [&](auto f) { map_dense(context, s.n, Value<decltype(f)>{f}, y, x); });
}

void pointwise_backward(const Context& context, const Pointwise& s, const T* kept, const T* dy, T* dx) {
  with_function(s, [&](auto f) { map_dense(context, s.n, Backward<decltype(f)>{f}, dx, kept, dy); });
}

}  // namespace fastnn::FASTNN_TABLE
