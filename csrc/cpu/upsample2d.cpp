// Maps of another size: each output mixes up to two rows and two columns; backward, each input gathers from the outputs that read it, in
// order. What is read where is worked out once per axis.
#include "../windows.h"
#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Plans {  // of the scratch
  Taps *rows, *columns;
  int64_t bytes;
};

Plans lay_out(const Upsample2d& s, void* base) {
  Scratch scratch(base);
  Plans p;
  p.rows = scratch.take<Taps>(s.h.count), p.columns = scratch.take<Taps>(s.w.count);
  p.bytes = scratch.bytes();
  return p;
}

Plans take_taps(const Upsample2d& s, void* scratch) {
  const Plans p = lay_out(s, scratch);
  for (int64_t i = 0; i < s.h.count; i++) p.rows[i] = taps_of(s.h, i);
  for (int64_t i = 0; i < s.w.count; i++) p.columns[i] = taps_of(s.w, i);
  return p;
}

// The share of an output that lies at `taps` in input h.
INLINE real share_at(const Taps& taps, int64_t h) { return real(h == taps.low ? 1 - taps.weight : taps.weight); }

// Moves on to the outputs that read input h; called with growing h.
INLINE void follow(const Taps* taps, int64_t count, int64_t h, Range& readers) {
  while (readers.begin < count && taps[readers.begin].high < h) readers.begin++;
  while (readers.end < count && taps[readers.end].low <= h) readers.end++;
}

}  // namespace

Plan upsample2d_forward_plan(const Context&, const Upsample2d& s) { return {s.h.linear ? "mix" : "copy", lay_out(s, nullptr).bytes}; }
Plan upsample2d_backward_plan(const Context&, const Upsample2d& s) { return {"gather", lay_out(s, nullptr).bytes}; }

void upsample2d_forward(const Context& context, const Upsample2d& s, const T* x, T* y, void* scratch) {
  const Plans plans = take_taps(s, scratch);
  const int64_t rows = s.N * s.h.count, per_block = larger(1, 32768 / larger(1, s.w.count * s.C)), row = s.w.size * s.C;
  const bool past = goes_past(context, y, rows * s.w.count * s.C * int64_t(sizeof(T)), s.C);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t np = block * per_block; np < smaller((block + 1) * per_block, rows); np++) {
      const Taps h = plans.rows[np % s.h.count];
      const T* const image = x + np / s.h.count * s.h.size * row;
      const T *const upper = image + h.low * row, *const lower = image + h.high * row;
      const vec below = set(real(h.weight)), above = set(real(1 - h.weight));
      for (int64_t q = 0; q < s.w.count; q++) {
        const Taps w = plans.columns[q];
        T* const out = y + (np * s.w.count + q) * s.C;
        if (!s.h.linear) {
          for_vectors(0, s.C, past, [&](int64_t c, auto load, auto store) { store(out + c, load(upper + w.low * s.C + c)); });
          continue;
        }
        const vec right = set(real(w.weight)), left = set(real(1 - w.weight));
        for_vectors(0, s.C, past, [&](int64_t c, auto load, auto store) {
          const vec top = fma(right, load(upper + w.high * s.C + c), left * load(upper + w.low * s.C + c));
          const vec bottom = fma(right, load(lower + w.high * s.C + c), left * load(lower + w.low * s.C + c));
          store(out + c, fma(below, bottom, above * top));
        });
      }
    }
    finish(past);
  });
}

void upsample2d_backward(const Context& context, const Upsample2d& s, const T* dy, T* dx, void* scratch) {
  const Plans plans = take_taps(s, scratch);
  const int64_t rows = s.N * s.h.size, per_block = larger(1, 32768 * s.h.size / larger(1, s.h.count * s.w.count * s.C));
  const int64_t row = s.w.count * s.C;
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t nh = block * per_block; nh < smaller((block + 1) * per_block, rows); nh++) {
      const int64_t h = nh % s.h.size;
      const T* const image = dy + nh / s.h.size * s.h.count * row;
      Range p{first_reader(s.h, h), 0}, q{0, 0};
      p.end = p.begin;
      follow(plans.rows, s.h.count, h, p);
      for (int64_t w = 0; w < s.w.size; w++) {
        follow(plans.columns, s.w.count, w, q);
        T* const out = dx + (nh * s.w.size + w) * s.C;
        for_vectors(0, s.C, [&](int64_t c, auto load, auto store) {
          vec total = zero();
          for (int64_t i = p.begin; i < p.end; i++) {
            vec sum = zero();
            for (int64_t j = q.begin; j < q.end; j++)
              sum = fma(set(share_at(plans.columns[j], w)), load(image + i * row + j * s.C + c), sum);
            total = fma(set(share_at(plans.rows[i], h)), sum, total);
          }
          store(out + c, total);
        });
      }
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
