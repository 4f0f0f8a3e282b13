// A pixel of a pool: vectors over its channels, and the best of a window.
#pragma once
#include "lanes.h"
#include "moments.h"
#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Span {
  int64_t begin, end;
};

// The part of a window of `size` that lies inside [0, limit) when its first element falls on `start`.
INLINE Span inside(int64_t start, int64_t size, int64_t limit) { return {larger(0, -start), smaller(size, limit - start)}; }

// step(c, load, store, load_bytes, store_bytes) over the channels of a pixel; what is stored by store(), past the caches where `past`
template <class F>
INLINE void for_channels(int64_t C, bool past, const F& step) {
  int64_t c = 0;
  for (; c + N_LANES <= C; c += N_LANES)
    step(
        c, [](const auto* p) { return load(p); }, [past](auto* p, vec a) { store(past, p, a); }, [](const u8* p) { return load_bytes(p); },
        [](u8* p, ivec a) { store_bytes(p, a); });
  if (const int n = int(C - c))
    step(
        c, [n](const auto* p) { return load_n(p, n); }, [n](auto* p, vec a) { store_n(p, n, a); },
        [n](const u8* p) { return load_bytes_n(p, n); }, [n](u8* p, ivec a) { store_bytes_n(p, n, a); });
}

// Asks for `count` neighbours in each of some rows of a map that will be read soon: windows read a few lines here and there, which is no
// stream that the processor foresees.
INLINE void ask(const T* first, int64_t rows, int64_t row, int64_t count) {
  constexpr int64_t line = 64 / int64_t(sizeof(T));
  for (int64_t i = 0; i < rows; i++)
    for (int64_t c = 0; c < count; c += line) __builtin_prefetch(first + i * row + c);
}
// Whether that pays: not where much of the map lies in the caches, nor where a pixel is less than a line.
INLINE bool asks(int64_t pixels, int64_t C) { return pixels * C * int64_t(sizeof(T)) > 8 * 1024 * 1024 && C >= N_LANES; }

// Whether results y of a map go past the caches: they would not stay where twice as many bytes as those hold are read meanwhile.
INLINE bool leave_caches(const Context& context, const T* y, int64_t pixels, int64_t C) {
  return goes_past(context, y, pixels * C * int64_t(sizeof(T)) / 2, C);
}

INLINE ivec lanes(int64_t a) { return integer(a) - ivec{}; }

// The same when the window's elements lie `dilation` apart.
INLINE Span inside(int64_t start, int64_t size, int64_t limit, int64_t dilation) {
  if (dilation == 1) return inside(start, size, limit);
  return {start < 0 ? divide_up(-start, dilation) : 0, smaller(size, divide_up(limit - start, dilation))};
}

// The best of a window's elements inside the map, rows r and columns s; `x` is where element (0, 0) of the window would lie, the others
// lie `row` and `column` further. A NaN is taken once and stays: v > NaN is false, and so is NaN == NaN. `index` may be absent. relu:
// there nobody wins who is not above 0.
template <bool has_index = true, bool past = false>
INLINE void pool_pixel(const T* x, int64_t row, int64_t column, int64_t C, Span r, Span s, int64_t S, T* y, u8* index, bool relu = false) {
  for_channels(C, past, [=](int64_t c, auto load, auto store, auto, auto store_bytes) {
    vec best = load(x + r.begin * row + s.begin * column + c);
    ivec at = lanes(r.begin * S + s.begin);
    for (int64_t i = r.begin; i < r.end; i++) {
      for (int64_t j = s.begin; j < s.end; j++) {
        const vec v = load(x + i * row + j * column + c);
        const ivec better = ~(v <= best) & (best == best);
        best = select(better, v, best);
        if constexpr (has_index) at = (better & lanes(i * S + j)) | (~better & at);
      }
    }
    store(y + c, best);
    if constexpr (has_index) {
      const ivec nobody = best <= zero();
      store_bytes(index + c, relu ? (nobody & lanes(Pool2d::no_winner)) | (~nobody & at) : at);
    }
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
