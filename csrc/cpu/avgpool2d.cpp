// Means over windows, sliding ones or even shares of the map. Vectors run over channels, blocks over rows. A window is summed row by row,
// and the rows' sums then: less is rounded away than pixel by pixel.
#include "../windows.h"
#include "pool2d.h"

namespace fastnn::FASTNN_TABLE {

namespace {

template <bool past>
void average(const Context& context, const AvgPool2d& s, const T* x, T* y) {
  const int64_t rows = s.N * s.h.count, row = s.w.size * s.C;
  const bool asked = asks(s.N * s.h.size * s.w.size, s.C);
  const int64_t per_block = larger(1, 32768 * s.h.count / larger(1, s.h.size * row));  // about 32k elements of x
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const int64_t p = np % s.h.count;
      const Range h = window_of(s.h, p), next = window_of(s.h, p + 1 < s.h.count ? p + 1 : 0);
      const int64_t more = asked ? next.end - (p + 1 < s.h.count ? h.end : 0) : 0;  // rows that the next windows are the first to read
      const T* const image = x + np / s.h.count * s.h.size * row;
      for (int64_t q = 0; q < s.w.count; q++) {
        const Range w = window_of(s.w, q);
        const vec divisor = set(real(divisor_of(s, p, q)));
        T* const out = y + (np * s.w.count + q) * s.C;
        ask(image + h.end * row + w.begin * s.C, more, row, (w.end - w.begin) * s.C);
        for_vectors(0, s.C, past, [&](int64_t c, auto load, auto store) {
          vec total = zero();
          for (int64_t i = h.begin; i < h.end; i++) {
            vec sum = zero();
            for (int64_t j = w.begin; j < w.end; j++) sum += load(image + i * row + j * s.C + c);
            total += sum;
          }
          store(out + c, total / divisor);
        });
      }
    }
    finish(past);
  });
}

bool side_by_side(const PoolAxis& a) { return !a.adaptive && a.window == a.stride && a.pad == 0 && a.count * a.window == a.size; }

// Windows that fill the map: each writes the pixels it covers, which are no other's.
void scatter(const Context& context, const AvgPool2d& s, const T* dy, T* dx) {
  const int64_t rows = s.N * s.h.count, row = s.w.size * s.C, per_block = larger(1, 32768 / larger(1, s.h.window * row));
  const bool past = goes_past(context, dx, rows * s.h.window * row * int64_t(sizeof(T)), s.C);
  const vec divisor = set(real(divisor_of(s, 0, 0)));
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++)
      for (int64_t q = 0; q < s.w.count; q++) {
        const T* const from = dy + (np * s.w.count + q) * s.C;
        T* const out = dx + np * s.h.window * row + q * s.w.window * s.C;
        for_vectors(0, s.C, past, [=](int64_t c, auto load, auto store) {
          const vec share = zero() + load(from + c) / divisor;
          for (int64_t i = 0; i < s.h.window; i++)
            for (int64_t j = 0; j < s.w.window; j++) store(out + i * row + j * s.C + c, share);
        });
      }
    finish(past);
  });
}

}  // namespace

void avgpool2d_forward(const Context& context, const AvgPool2d& s, const T* x, T* y) {
  leave_caches(context, y, s.N * s.h.size * s.w.size, s.C) ? average<true>(context, s, x, y) : average<false>(context, s, x, y);
}

// Each input pixel gathers from the windows that have it, in order.
void avgpool2d_backward(const Context& context, const AvgPool2d& s, const T* dy, T* dx) {
  if (side_by_side(s.h) && side_by_side(s.w)) return scatter(context, s, dy, dx);
  const int64_t rows = s.N * s.h.size, per_block = larger(1, 32768 / larger(1, s.w.size * s.C)), row = s.w.count * s.C;
  const bool past = goes_past(context, dx, rows * s.w.size * s.C * int64_t(sizeof(T)), s.C);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t nh = block * per_block; nh < smaller((block + 1) * per_block, rows); nh++) {
      const Range p = windows_over(s.h, nh % s.h.size);
      const T* const image = dy + nh / s.h.size * s.h.count * row;
      for (int64_t w = 0; w < s.w.size; w++) {
        const Range q = windows_over(s.w, w);
        T* const out = dx + (nh * s.w.size + w) * s.C;
        for_vectors(0, s.C, past, [&](int64_t c, auto load, auto store) {
          vec total = zero();
          for (int64_t i = p.begin; i < p.end; i++) {
            vec sum = zero();
            for (int64_t j = q.begin; j < q.end; j++) sum += load(image + i * row + j * s.C + c) / set(real(divisor_of(s, i, j)));
            total += sum;
          }
          store(out + c, total);
        });
      }
    }
    finish(past);
  });
}

}  // namespace fastnn::FASTNN_TABLE
