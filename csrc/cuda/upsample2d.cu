// Maps of another size: each output mixes up to two rows and two columns; backward, each input gathers from the outputs that read it, in
// order.
#include "../windows.h"
#include "pixels.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class Packs>
__global__ void copy_nearest(Upsample2d s, const T* x, T* y) {
  const Pixel out(s.N, s.h.count, s.w.count, s.C, Packs::columns);
  if (!out.inside) return;
  const int64_t h = taps_of(s.h, out.h).low, w = taps_of(s.w, out.w).low;
  Packs::store(y + out.offset, Packs::load(x + ((out.n * s.h.size + h) * s.w.size + w) * s.C + out.c));
}

template <class Packs>
__global__ void mix(Upsample2d s, const T* x, T* y) {
  const Pixel out(s.N, s.h.count, s.w.count, s.C, Packs::columns);
  if (!out.inside) return;
  const Taps h = taps_of(s.h, out.h), w = taps_of(s.w, out.w);
  const float below = float(h.weight), above = float(1 - h.weight), right = float(w.weight), left = float(1 - w.weight);
  const auto pixel = [&](int64_t row, int64_t column) {
    return Packs::load(x + ((out.n * s.h.size + row) * s.w.size + column) * s.C + out.c);
  };
  const typename Packs::P top_left = pixel(h.low, w.low), top_right = pixel(h.low, w.high);
  const typename Packs::P bottom_left = pixel(h.high, w.low), bottom_right = pixel(h.high, w.high);
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) {
    const float top = fmaf(right, float(top_right.e[v]), left * float(top_left.e[v]));
    const float bottom = fmaf(right, float(bottom_right.e[v]), left * float(bottom_left.e[v]));
    to.e[v] = T(fmaf(below, bottom, above * top));
  }
  Packs::store(y + out.offset, to);
}

// The share of an output that lies at `taps` in input h.
__device__ __forceinline__ float share_at(const Taps& taps, int64_t h) { return float(h == taps.low ? 1 - taps.weight : taps.weight); }

template <class Packs>
__global__ void gather_readers(Upsample2d s, const T* dy, T* dx) {
  const Pixel in(s.N, s.h.size, s.w.size, s.C, Packs::columns);
  if (!in.inside) return;
  const int64_t q_first = first_reader(s.w, in.w);
  float total[Packs::columns] = {};
  for (int64_t p = first_reader(s.h, in.h); p < s.h.count; p++) {
    const Taps h = taps_of(s.h, p);
    if (h.low > in.h) break;
    if (h.high < in.h) continue;
    float sum[Packs::columns] = {};
    for (int64_t q = q_first; q < s.w.count; q++) {
      const Taps w = taps_of(s.w, q);
      if (w.low > in.w) break;
      if (w.high < in.w) continue;
      const typename Packs::P from = Packs::load(dy + ((in.n * s.h.count + p) * s.w.count + q) * s.C + in.c);
      const float share = share_at(w, in.w);
      UNROLL for (int v = 0; v < Packs::columns; v++) sum[v] = fmaf(share, float(from.e[v]), sum[v]);
    }
    const float share = share_at(h, in.h);
    UNROLL for (int v = 0; v < Packs::columns; v++) total[v] = fmaf(share, sum[v], total[v]);
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(total[v]);
  Packs::store(dx + in.offset, to);
}

}  // namespace

Plan upsample2d_forward_plan(const Context&, const Upsample2d& s) { return {s.h.linear ? "mix" : "copy", 0}; }
Plan upsample2d_backward_plan(const Context&, const Upsample2d&) { return {"gather", 0}; }

void upsample2d_forward(const Context& context, const Upsample2d& s, const T* x, T* y, void*) {
  with_packs(s.C, are_aligned(x, y), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, s.h.linear ? mix<Packs> : copy_nearest<Packs>, pixel_grid<Packs>(s.N * s.h.count * s.w.count, s.C), threads, s, x, y);
  });
}

void upsample2d_backward(const Context& context, const Upsample2d& s, const T* dy, T* dx, void*) {
  with_packs(s.C, are_aligned(dy, dx), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, gather_readers<Packs>, pixel_grid<Packs>(s.N * s.h.size * s.w.size, s.C), threads, s, dy, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
