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
    const int64_t rest = i / C, a = rest / B;
    return {int(a), int(rest - a * B), int(i - rest * C)};
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

  struct alignas(16) Pixel {  // its window's first tap, which may lie outside: the position, and where that would be
    const T* first;
    int h, w;
  };
  struct Tap {  // from the first one
    int64_t offset;
    int h, w;
  };
  static constexpr int outside = -(1 << 30);  // added to anything, no row of a map: of pixels beyond the batch, and taps beyond the last

  __device__ __forceinline__ Pixel pixel(const Digits& i) const {
    const int h = i.b * down.stride + down.offset, w = i.c * across.stride + across.offset;
    return {beyond(map, ((int64_t(i.a) * down.size + h) * across.size + w) * channels), i.a < N ? h : outside, w};
  }
  __device__ __forceinline__ Tap tap(const Digits& i) const {
    const int h = i.a * down.dilation, w = i.b * across.dilation;
    return {(int64_t(h) * across.size + w) * channels + i.c, i.a < R ? h : outside, w};
  }
  __device__ __forceinline__ Source at(const Pixel& pixel, const Tap& tap) const {
    const bool row = unsigned(pixel.h + tap.h) < unsigned(down.size), column = unsigned(pixel.w + tap.w) < unsigned(across.size);
    return {beyond(pixel.first, tap.offset), bool(row & column)};
  }
};

// Rows are pixels, the depth is (r, s, c).
template <int vector_>
struct WindowRows {
  static constexpr bool along_depth = true;
  static constexpr int vector = vector_;
  Window window;
  using Place = Window::Pixel;
  using Shift = Window::Tap;
  using Cursor = Clock;
  __device__ __forceinline__ Place row(int64_t i) const { return window.pixel(window.pixels.of(i)); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {window.taps.of(k), window.taps.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.taps.add(cursor.now, cursor.step); }
  __device__ __forceinline__ Shift step(const Cursor& cursor) const { return window.tap(cursor.now); }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return window.at(place, shift); }
};

// Rows are (r, s, c), the depth is the pixels.
template <int vector_>
struct WindowColumns {
  static constexpr bool along_depth = false;
  static constexpr int vector = vector_;
  Window window;
  using Place = Window::Pixel;
  using Shift = Window::Tap;
  using Cursor = Clock;
  __device__ __forceinline__ Shift row(int64_t i) const { return window.tap(window.taps.of(i)); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {window.pixels.of(k), window.pixels.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.pixels.add(cursor.now, cursor.step); }
  __device__ __forceinline__ Place step(const Cursor& cursor) const { return window.pixel(cursor.now); }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return window.at(place, shift); }
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
