// One function applied to arrays element by element, y[i] = f(x[i]...): dense arrays from end to end, and below arrays stepped through
// together by a Walk. Packs of 16 bytes where addresses allow, else single elements. f takes float or T, and may take nothing.
#pragma once
#include "walk.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int map_threads = 256;
template <int width>
constexpr int packs_per_thread = width == 1 ? 4 : 2;  // all are asked for before the first is needed

template <int width, class E>
__device__ __forceinline__ Pack<E, width> load_pack(const E* p) {
  return *reinterpret_cast<const Pack<E, width>*>(p);
}
template <int width, class E>
__device__ __forceinline__ void store_pack(E* p, Pack<E, width> pack) {
  *reinterpret_cast<Pack<E, width>*>(p) = pack;
}

template <class Y, int width, class F, class... X>
__device__ __forceinline__ Pack<Y, width> map_pack(const F& f, Pack<X, width>... x) {
  Pack<Y, width> y;
  UNROLL for (int j = 0; j < width; j++) y.e[j] = Y(f(x.e[j]...));
  return y;
}

struct Itself {
  __device__ __forceinline__ T operator()(T x) const { return x; }
};

// --- dense

template <int width, class F, class Y, class... X>
__global__ void dense_map(int64_t n, F f, Y* y, const X*... x) {
  constexpr int packs = packs_per_thread<width>;
  constexpr int64_t step = int64_t(map_threads) * width;
  const int64_t first = int64_t(blockIdx.x) * packs * step + threadIdx.x * width;
  if (first + (packs - 1) * step + width <= n) {
    Pack<Y, width> results[packs];
    UNROLL for (int p = 0; p < packs; p++) results[p] = map_pack<Y, width>(f, load_pack<width>(x + first + p * step)...);
    UNROLL for (int p = 0; p < packs; p++) store_pack(y + first + p * step, results[p]);
    return;
  }
  for (int p = 0; p < packs; p++) {
    int64_t i = first + p * step;
    if (i + width <= n) {
      store_pack(y + i, map_pack<Y, width>(f, load_pack<width>(x + i)...));
    } else {
      for (; i < n; i++) y[i] = Y(f(x[i]...));
    }
  }
}

template <int width, class F, class Y, class... X>
void run_dense(const Context& context, int64_t n, const F& f, Y* y, const X*... x) {
  void (*const kernel)(int64_t, F, Y*, const X*...) = dense_map<width, F, Y, X...>;
  launch(context, kernel, unsigned(divide_up(n, map_threads * width * packs_per_thread<width>)), map_threads, n, f, y, x...);
}

// y[i] = f(x[i]...) for i in [0, n)
template <class F, class Y, class... X>
void map_dense(const Context& context, int64_t n, const F& f, Y* y, const X*... x) {
  if (lie_in_packs<pack_width>(y, x...))
    run_dense<pack_width>(context, n, f, y, x...);
  else
    run_dense<1>(context, n, f, y, x...);
}

// --- strided: array 0 of the walk is y

// How an input is read where a walk stands: neighbours, or one element for all.
template <int array, class X>
struct Along {
  const X* x;
  template <int width, int arrays>
  __device__ __forceinline__ Pack<X, width> read(const Offsets<arrays>& at) const {
    return load_pack<width>(x + at.of[array]);
  }
};

template <int array, class X>
struct Repeated {
  const X* x;
  template <int width, int arrays>
  __device__ __forceinline__ Pack<X, width> read(const Offsets<arrays>& at) const {
    Pack<X, width> pack;
    UNROLL for (int j = 0; j < width; j++) pack.e[j] = x[at.of[array]];
    return pack;
  }
};

// The two in one, where a kernel for each combination would be too many
template <int array, class X>
struct Either {
  const X* x;
  bool repeated;
  Either(const X* x, int64_t inner_step) : x(x), repeated(inner_step == 0) {}
  template <int width, int arrays>
  __device__ __forceinline__ Pack<X, width> read(const Offsets<arrays>& at) const {
    return repeated ? Repeated<array, X>{x}.template read<width>(at) : Along<array, X>{x}.template read<width>(at);
  }
};

// Positions behind the last one are read as the last one, and not written.
template <int width, class F, class Y, class... In>
__global__ void strided_map(Walk<1 + sizeof...(In)> walk, uint32_t count, F f, Y* y, In... in) {
  constexpr int packs = packs_per_thread<width>;
  const uint32_t first = blockIdx.x * (packs * map_threads) + threadIdx.x;
  Pack<Y, width> results[packs];
  int64_t to[packs];
  UNROLL for (int p = 0; p < packs; p++) {
    const auto at = walk.at(smaller(first + p * map_threads, count - 1));
    results[p] = map_pack<Y, width>(f, in.template read<width>(at)...), to[p] = at.of[0];
  }
  UNROLL for (int p = 0; p < packs; p++) {
    if (first + p * map_threads < count) store_pack(y + to[p], results[p]);
  }
}

template <int width, class F, class Y, class... In>
void run_strided(const Context& context, const Space<1 + sizeof...(In)>& space, const F& f, Y* y, const In&... in) {
  void (*const kernel)(Walk<1 + sizeof...(In)>, uint32_t, F, Y*, In...) = strided_map<width, F, Y, In...>;
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count(), blocks = divide_up(count, map_threads * packs_per_thread<width>);
    launch(context, kernel, unsigned(blocks), map_threads, Walk<1 + sizeof...(In)>(piece), uint32_t(count), f, y, in...);
  });
}

// body(Along or Repeated), by the array's innermost step
template <int array, int arrays, class X, class F>
void with_reading(const Space<arrays>& space, const X* x, const F& body) {
  if (space.inner_step(array) == 0)
    body(Repeated<array, X>{x});
  else
    body(Along<array, X>{x});
}

// Whether every pack of the innermost dimension lies together in y, and in x too or is one element repeated
template <class Y, class... X>
bool lies_in_packs(const Space<1 + sizeof...(X)>& space, const Y* y, const X*... x) {
  const bool aligned[] = {lie_in_packs<pack_width>(y), lie_in_packs<pack_width>(x)...};
  bool fits = space.inner_size() % pack_width == 0 && space.inner_step(0) == 1;
  for (int a = 0; a <= int(sizeof...(X)); a++) fits = fits && (space.inner_step(a) == 0 || (space.steps_by(a, pack_width) && aligned[a]));
  return fits;
}

// y = f(x) over a space of y and x, or y = f(a, b) over one of y, a and b
template <class F>
void map_strided(const Context& context, const Space<2>& space, const F& f, T* y, const T* x) {
  if (space.is_dense()) return map_dense(context, space.count(), f, y + space.start[0], x + space.start[1]);
  if (!lies_in_packs(space, y, x)) return run_strided<1>(context, space, f, y, Along<1, T>{x});
  with_reading<1>(space, x, [&](const auto& in) { run_strided<pack_width>(context, space.in_packs(pack_width), f, y, in); });
}

template <class F>
void map_strided(const Context& context, const Space<3>& space, const F& f, T* y, const T* a, const T* b) {
  if (space.is_dense()) return map_dense(context, space.count(), f, y + space.start[0], a + space.start[1], b + space.start[2]);
  if (!lies_in_packs(space, y, a, b)) return run_strided<1>(context, space, f, y, Along<1, T>{a}, Along<2, T>{b});
  with_reading<1>(space, a, [&](const auto& left) {
    with_reading<2>(space, b, [&](const auto& right) { run_strided<pack_width>(context, space.in_packs(pack_width), f, y, left, right); });
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
