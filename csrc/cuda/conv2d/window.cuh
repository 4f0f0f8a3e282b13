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

// (r, s, c), in the order in which a depth takes them: as they lie in memory; or, where the channels are whole chunks of
// every way to multiply, a chunk of them at each tap of a row before the next chunk. What neighbouring taps share is then asked for again
// while it still lies in the L1 cache.
struct Taps {
  Radix radix;  // S, C
  struct Clock {
    Digits now, step;
    int chunk;
  };
  __device__ __forceinline__ bool by_chunks() const { return radix.C % whole_chunks == 0; }
  __device__ __forceinline__ Clock start(int64_t k, int chunk) const {
    if (!by_chunks()) return {radix.of(k), radix.of(chunk), chunk};
    if (k < chunk) return {{0, 0, int(k)}, {}, chunk};
    const Digits at = Radix{radix.C / chunk, radix.B}.of(k / chunk);  // (r, chunk of channels, s)
    return {{at.a, at.c, at.b * chunk + int(k % chunk)}, {}, chunk};
  }
  __device__ __forceinline__ void next(Clock& clock) const {
    if (!by_chunks()) return radix.add(clock.now, clock.step);
    Digits& now = clock.now;
    if (++now.b < radix.B) return;
    now.b = 0, now.c += clock.chunk;
    const bool all = now.c >= radix.C;
    now.c -= all ? radix.C : 0, now.a += all;
  }
};

// How one side of the windows moves: tap t of position i is at i stride + t dilation + offset, inside [0, size).
struct Axis {
  int stride, dilation, offset, size;
};

struct Window {
  const T* map;         // first channel of the group
  int64_t N, channels;  // channels of all groups, the pitch of pixels
  Radix pixels;         // (n, p, q)
  Taps taps;
  int R;  // taps in a column
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
    return {map + ((int64_t(i.a) * down.size + h) * across.size + w) * channels, i.a < N ? h : outside, w};
  }
  __device__ __forceinline__ Tap tap(const Digits& i) const {
    const int h = i.a * down.dilation, w = i.b * across.dilation;
    return {(int64_t(h) * across.size + w) * channels + i.c, i.a < R ? h : outside, w};
  }
  __device__ __forceinline__ Source at(const Pixel& pixel, const Tap& tap) const {
    const bool row = unsigned(pixel.h + tap.h) < unsigned(down.size), column = unsigned(pixel.w + tap.w) < unsigned(across.size);
    return {pixel.first + tap.offset, bool(row & column)};
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
  using Cursor = Taps::Clock;
  __device__ __forceinline__ Place row(int64_t i) const { return window.pixel(window.pixels.of(i)); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return window.taps.start(k, step); }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.taps.next(cursor); }
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
  __device__ __forceinline__ Shift row(int64_t i) const { return window.tap(window.taps.radix.of(i)); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {window.pixels.of(k), window.pixels.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { window.pixels.add(cursor.now, cursor.step); }
  __device__ __forceinline__ Place step(const Cursor& cursor) const { return window.pixel(cursor.now); }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return window.at(place, shift); }
};

// Filters as they lie, rows of taps and channels
template <int vector_>
struct FilterRows {
  static constexpr bool along_depth = true;
  static constexpr int vector = vector_;
  const T* w;
  int64_t rows, filter;  // filter: elements of one, R S C
  Taps taps;
  int R;

  using Place = LinePlace;
  using Shift = LineShift;
  using Cursor = Taps::Clock;
  __device__ __forceinline__ Place row(int64_t i) const { return {w + i * filter, i < rows}; }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return taps.start(k, step); }
  __device__ __forceinline__ void next(Cursor& cursor) const { taps.next(cursor); }
  __device__ __forceinline__ Shift step(const Cursor& cursor) const {
    const Digits& i = cursor.now;
    return {int64_t(i.a * taps.radix.B + i.b) * taps.radix.C + i.c, i.a < R};
  }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return source_at(place, shift); }
};

// The windows of x that y's pixels read; the first group's.
inline Window forward_window(const Conv2d& v, const T* x) {
  return {x,
          v.N,
          v.C,
          {int(v.P), int(v.Q)},
          {{int(v.S), int(v.C / v.G)}},
          int(v.R),
          {int(v.stride_h), int(v.dilation_h), -int(v.pad_top), int(v.H)},
          {int(v.stride_w), int(v.dilation_w), -int(v.pad_left), int(v.W)}};
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
