// Means over windows, sliding ones or even shares of the map; backward, each input pixel gathers from the windows that have it, in order.
#include "../windows.h"
#include "pixels.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class Packs>
__global__ void average(AvgPool2d s, const T* x, T* y) {
  const Pixel out(s.N, s.h.count, s.w.count, s.C, Packs::columns);
  if (!out.inside) return;
  const Range h = window_of(s.h, out.h), w = window_of(s.w, out.w);
  float total[Packs::columns] = {};
  for (int64_t i = h.begin; i < h.end; i++) {
    float sum[Packs::columns] = {};
    for (int64_t j = w.begin; j < w.end; j++) {
      const typename Packs::P from = Packs::load(x + ((out.n * s.h.size + i) * s.w.size + j) * s.C + out.c);
      UNROLL for (int v = 0; v < Packs::columns; v++) sum[v] += float(from.e[v]);
    }
    UNROLL for (int v = 0; v < Packs::columns; v++) total[v] += sum[v];
  }
  const float divisor = float(divisor_of(s, out.h, out.w));
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(total[v] / divisor);
  Packs::store(y + out.offset, to);
}

template <class Packs>
__global__ void average_backward(AvgPool2d s, const T* dy, T* dx) {
  const Pixel in(s.N, s.h.size, s.w.size, s.C, Packs::columns);
  if (!in.inside) return;
  const Range p = windows_over(s.h, in.h), q = windows_over(s.w, in.w);
  float total[Packs::columns] = {};
  for (int64_t i = p.begin; i < p.end; i++) {
    float sum[Packs::columns] = {};
    for (int64_t j = q.begin; j < q.end; j++) {
      const typename Packs::P from = Packs::load(dy + ((in.n * s.h.count + i) * s.w.count + j) * s.C + in.c);
      const float divisor = float(divisor_of(s, i, j));
      UNROLL for (int v = 0; v < Packs::columns; v++) sum[v] += float(from.e[v]) / divisor;
    }
    UNROLL for (int v = 0; v < Packs::columns; v++) total[v] += sum[v];
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(total[v]);
  Packs::store(dx + in.offset, to);
}

}  // namespace

void avgpool2d_forward(const Context& context, const AvgPool2d& s, const T* x, T* y) {
  with_packs(s.C, are_aligned(x, y), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, average<Packs>, pixel_grid<Packs>(s.N * s.h.count * s.w.count, s.C), threads, s, x, y);
  });
}

void avgpool2d_backward(const Context& context, const AvgPool2d& s, const T* dy, T* dx) {
  with_packs(s.C, are_aligned(dy, dx), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, average_backward<Packs>, pixel_grid<Packs>(s.N * s.h.size * s.w.size, s.C), threads, s, dy, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
