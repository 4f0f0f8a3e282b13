// The pixels that windows cover, as an operand of a product: pixel (n, p, q) of one map meets tap (r, s) and channel c of another at
// (n, p stride + r dilation + offset, ...). Nothing is divided inside loops: positions are digits that count like a clock.
#pragma once
#include "../gemm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Digits {
  int a, b, c;
};

// Numbers (a B + b) C + c
struct Radix {
  int B, C;
  __device__ __forceinline__ Digits of(int64_t i) const {
    const int64_t rest = i / C;
    return {int(rest / B), int(rest % B), int(i % C)};
  }
  __device__ __forceinline__ void add(Digits& to, const Digits& step) const {
    to.c += step.c;
    const bool carry_c = to.c >= C;
    to.c -= carry_c ? C : 0;
    to.b += step.b + carry_c;
    const bool carry_b = to.b >= B;
    to.b -= carry_b ? B : 0;
    to.a += step.a + carry_b;
  }
};

struct Clock {  // a number and what it grows by
  Digits now, step;
};

// How one side of the windows moves: tap t of position i is at i stride + t dilation + offset, inside [0, size).
struct Axis {
  int stride, dilation, offset, size;
};

struct Window {
  const T* map;         // first channel of the group
  int64_t N, channels;  // channels of all groups, the pitch of pixels
  Radix pixels, taps;   // (n, p, q) and (r, s, c)
  int R;                // taps in a column
  Axis down, across;

  struct Pixel {  // its image and its window's first tap; outside the batch, h is so low that no tap is inside
    const T* image;
    int h, w;
  };
  static constexpr int outside = -(1 << 30);

  __device__ __forceinline__ Pixel pixel(const Digits& i) const {
    const bool inside = i.a < N;
    const int64_t image = inside ? int64_t(i.a) * down.size * across.size * channels : 0;
    return {map + image, inside ? i.b * down.stride + down.offset : outside, i.c * across.stride + across.offset};
  }
  __device__ __forceinline__ const T* at(const Pixel& pixel, const Digits& tap) const {
    const int h = pixel.h + tap.a * down.dilation, w = pixel.w + tap.b * across.dilation;
    const bool inside = tap.a < R && unsigned(h) < unsigned(down.size) && unsigned(w) < unsigned(across.size);
    return inside ? pixel.image + (int64_t(h * across.size + w) * channels + tap.c) : nullptr;
  }
};

// Rows are pixels, the depth is (r, s, c).
template <int vector_>
struct WindowRows {
  static constexpr bool along_depth = true;
  static constexpr int vector = vector_;
  Window window;
  using Place = Window::Pixel;
  using Cursor = Clock;
  __device__ __forceinline__ Place place(int64_t row) const { return window.pixel(window.pixels.of(row)); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {window.taps.of(k), window.taps.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.taps.add(cursor.now, cursor.step); }
  __device__ __forceinline__ const T* at(const Place& place, const Cursor& cursor) const { return window.at(place, cursor.now); }
  __device__ __forceinline__ const T* any() const { return window.map; }
};

// Rows are (r, s, c), the depth is the pixels.
template <int vector_>
struct WindowColumns {
  static constexpr bool along_depth = false;
  static constexpr int vector = vector_;
  Window window;
  using Place = Digits;
  using Cursor = Clock;
  __device__ __forceinline__ Place place(int64_t row) const { return window.taps.of(row); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {window.pixels.of(k), window.pixels.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.pixels.add(cursor.now, cursor.step); }
  __device__ __forceinline__ const T* at(const Place& place, const Cursor& cursor) const {
    return window.at(window.pixel(cursor.now), place);
  }
  __device__ __forceinline__ const T* any() const { return window.map; }
};

// The windows of x that y's pixels read; the first group's.
inline Window forward_window(const Conv2d& v, const T* x) {
  return {x,
          v.N,
          v.C,
          {int(v.P), int(v.Q)},
          {int(v.S), int(v.C / v.G)},
          int(v.R),
          {int(v.stride_h), int(v.dilation_h), -int(v.pad_top), int(v.H)},
          {int(v.stride_w), int(v.dilation_w), -int(v.pad_left), int(v.W)}};
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
