// Maximum over listed regions (fractional and adaptive max pooling), and the random regions of the fractional one.
#include "../windows.h"
#include "pool2d.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Borders {  // of a sample's regions
  const i64 *begin, *end;
};

INLINE Borders borders_of(const RegionPool2d& s, const i64* regions, int64_t n) {
  const i64* const begin = regions + (s.per_sample ? n : 0) * 2 * (s.P + s.Q);
  return {begin, begin + s.P + s.Q};
}

}  // namespace

void fractional_regions(const Context& context, const FractionalRegions& s, const i64* state, i64* regions) {
  const int64_t samples = larger(1, 4096 / (s.P + s.Q));
  parallel(context, divide_up(s.N, samples), [&](int64_t block, int) {
    for (int64_t n = block * samples; n < smaller((block + 1) * samples, s.N); n++) lay_regions_of_sample(s, state, n, regions);
  });
}

void regionpool2d_forward(const Context& context, const RegionPool2d& s, const T* x, const i64* regions, T* y, u8* index) {
  const int64_t rows = s.N * s.P, row = s.W * s.C;
  const int64_t per_block = larger(1, 32768 * s.P / larger(1, s.H * row));  // about 32k elements of x
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const int64_t n = np / s.P, p = np % s.P;
      const Borders of = borders_of(s, regions, n);
      for (int64_t q = s.P; q < s.P + s.Q; q++) {
        const T* const corner = x + (n * s.H + of.begin[p]) * row + of.begin[q] * s.C;
        const int64_t out = (np * s.Q + q - s.P) * s.C;
        pool_pixel(corner, row, s.C, s.C, {0, of.end[p] - of.begin[p]}, {0, of.end[q] - of.begin[q]}, s.S, y + out, index + out);
      }
    }
  });
}

void pool_places(const Context& context, const PoolPlaces& s, const u8* index, const i64* regions, i64* place) {
  const int64_t rows = s.N * s.P, row = s.Q * s.C, per_block = larger(1, 32768 / larger(1, row));
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const i64* const begin = regions + (s.per_sample ? np / s.P : 0) * 2 * (s.P + s.Q);
      for (int64_t i = 0; i < row; i++) {
        const int64_t at = index[np * row + i];
        place[np * row + i] = (begin[np % s.P] + at / s.S * s.dilation_h) * s.W + begin[s.P + i / s.C] + at % s.S * s.dilation_w;
      }
    }
  });
}

// Each input pixel gathers from the regions that have it, in order.
void regionpool2d_backward(const Context& context, const RegionPool2d& s, const u8* index, const i64* regions, const T* dy, T* dx) {
  const int64_t rows = s.N * s.H, per_block = larger(1, 32768 / larger(1, s.W * s.C));
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t nh = block * per_block; nh < smaller((block + 1) * per_block, rows); nh++) {
      const int64_t h = nh % s.H, n = nh / s.H;
      const Borders of = borders_of(s, regions, n);
      int64_t p_begin = 0, q_begin = s.P, q_end = s.P;
      while (p_begin < s.P && of.end[p_begin] <= h) p_begin++;
      int64_t p_end = p_begin;
      while (p_end < s.P && of.begin[p_end] <= h) p_end++;
      for (int64_t w = 0; w < s.W; w++) {
        while (q_begin < s.P + s.Q && of.end[q_begin] <= w) q_begin++;
        while (q_end < s.P + s.Q && of.begin[q_end] <= w) q_end++;
        for_channels(s.C, false, [&](int64_t c, auto load, auto store, auto load_bytes, auto) {
          vec sum = zero();
          for (int64_t p = p_begin; p < p_end; p++) {
            for (int64_t q = q_begin; q < q_end; q++) {
              const int64_t out = ((n * s.P + p) * s.Q + q - s.P) * s.C + c, here = (h - of.begin[p]) * s.S + w - of.begin[q];
              sum += select(load_bytes(index + out) == lanes(here), load(dy + out), zero());
            }
          }
          store(dx + (nh * s.W + w) * s.C + c, sum);
        });
      }
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
