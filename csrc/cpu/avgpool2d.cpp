// Means over windows, sliding ones or even shares of the map. Vectors run over channels, blocks over rows. A window is summed row by row,
// and the rows' sums then: less is rounded away than pixel by pixel.
#include "../windows.h"
#include "pool2d.h"

namespace fastnn::FASTNN_TABLE {

void avgpool2d_forward(const Context& context, const AvgPool2d& s, const T* x, T* y) {
  const int64_t rows = s.N * s.h.count, row = s.w.size * s.C;
  const int64_t per_block = larger(1, 32768 * s.h.count / larger(1, s.h.size * row));  // about 32k elements of x
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const int64_t p = np % s.h.count;
      const Range h = window_of(s.h, p);
      const T* const image = x + np / s.h.count * s.h.size * row;
      for (int64_t q = 0; q < s.w.count; q++) {
        const Range w = window_of(s.w, q);
        const vec divisor = set(real(divisor_of(s, p, q)));
        T* const out = y + (np * s.w.count + q) * s.C;
        for_vectors(0, s.C, [&](int64_t c, auto load, auto store) {
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
  });
}

// Each input pixel gathers from the windows that have it, in order.
void avgpool2d_backward(const Context& context, const AvgPool2d& s, const T* dy, T* dx) {
  const int64_t rows = s.N * s.h.size, per_block = larger(1, 32768 / larger(1, s.w.size * s.C)), row = s.w.count * s.C;
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t nh = block * per_block; nh < smaller((block + 1) * per_block, rows); nh++) {
      const Range p = windows_over(s.h, nh % s.h.size);
      const T* const image = dy + nh / s.h.size * s.h.count * row;
      for (int64_t w = 0; w < s.w.size; w++) {
        const Range q = windows_over(s.w, w);
        T* const out = dx + (nh * s.w.size + w) * s.C;
        for_vectors(0, s.C, [&](int64_t c, auto load, auto store) {
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
  });
}

}  // namespace fastnn::FASTNN_TABLE
