// Maximum over windows, mean over maps. A thread has one pixel and a pack of its channels.
#include "pixels.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// Which elements of a window that begins at `start` lie inside the map.
struct Inside {
  int begin, end;
  __device__ Inside(int64_t start, int64_t size, int64_t limit, int64_t dilation)
      : begin(start < 0 ? int(divide_up(-start, dilation)) : 0), end(int(smaller(size, divide_up(limit - start, dilation)))) {}
};

// Which row (or column) of a window lies `offset` behind its first; one that no window has where none does.
__device__ __forceinline__ int row_of_window(int64_t offset, int64_t dilation) {
  if (dilation == 1) return int(offset);
  return offset % dilation ? 1 << 16 : int(offset / dilation);
}

// The best of the window's elements inside the map. A NaN is taken once and stays: v > NaN is false, and so is NaN == NaN.
template <class Packs>
__global__ void pool(Pool2d s, const T* x, T* y, u8* index) {
  const Pixel out(s.N, s.P, s.Q, s.C, Packs::columns);
  if (!out.inside) return;
  const int64_t h = out.h * s.stride_h - s.pad_h, w = out.w * s.stride_w - s.pad_w;
  const Inside rows(h, s.R, s.H, s.dilation_h), columns(w, s.S, s.W, s.dilation_w);
  const T* window = x + ((out.n * s.H + h) * s.W + w) * s.C + out.c;
  float best[Packs::columns] = {};
  IndexPack<Packs> at{};
  for (int r = rows.begin; r < rows.end; r++) {
    for (int q = columns.begin; q < columns.end; q++) {
      const typename Packs::P here = Packs::load(window + (r * s.dilation_h * s.W + q * s.dilation_w) * s.C);
      const bool first = r == rows.begin && q == columns.begin;
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        const float value = float(here.e[v]);
        if (first || (!(value <= best[v]) && best[v] == best[v])) best[v] = value, at.e[v] = u8(r * s.S + q);
      }
    }
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) {
    to.e[v] = T(best[v]);
    if (s.relu && best[v] <= 0) at.e[v] = Pool2d::no_winner;
  }
  Packs::store(y + out.offset, to);
  if (index) Packs::store(index + out.offset, at);
}

// Each input pixel gathers from the windows that cover it, in order.
template <class Packs>
__global__ void gather(Pool2d s, const u8* index, const T* dy, T* dx) {
  const Pixel in(s.N, s.H, s.W, s.C, Packs::columns);
  if (!in.inside) return;
  const int64_t h = in.h + s.pad_h, w = in.w + s.pad_w;
  const int64_t reach_h = (s.R - 1) * s.dilation_h + 1, reach_w = (s.S - 1) * s.dilation_w + 1;
  const int64_t p_begin = h < reach_h ? 0 : (h - reach_h) / s.stride_h + 1, p_end = smaller(h / s.stride_h + 1, s.P);
  const int64_t q_begin = w < reach_w ? 0 : (w - reach_w) / s.stride_w + 1, q_end = smaller(w / s.stride_w + 1, s.Q);
  float sum[Packs::columns] = {};
  for (int64_t p = p_begin; p < p_end; p++) {
    for (int64_t q = q_begin; q < q_end; q++) {
      const int64_t out = ((in.n * s.P + p) * s.Q + q) * s.C + in.c;
      const int here = row_of_window(h - p * s.stride_h, s.dilation_h) * int(s.S) + row_of_window(w - q * s.stride_w, s.dilation_w);
      const IndexPack<Packs> at = Packs::load(index + out);
      const typename Packs::P from = Packs::load(dy + out);
      UNROLL for (int v = 0; v < Packs::columns; v++) sum[v] += at.e[v] == here ? float(from.e[v]) : 0;
    }
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(sum[v]);
  Packs::store(dx + in.offset, to);
}

float share_of(const GlobalPool& s) { return 1 / float(s.H * s.W); }

// A block has as many maps as its threads have rows for; a large map is cut where there are too few of them for the GPU.
Columns cut_of(const GlobalPool& s) {
  constexpr int64_t large = 1024;
  return {s.N, s.H * s.W, s.C, s.H * s.W < large ? 1 : usual_blocks};
}

struct ToMeans {
  T* y;
  int64_t C;
  float share;
  __device__ void put(int64_t n, int64_t, int64_t c, double sum) const { y[n * C + c] = T(float(sum) * share); }
};

template <class Packs>
__global__ void spread(GlobalPool s, float share, const T* dy, T* dx) {
  const Pixel in(s.N, s.H, s.W, s.C, Packs::columns);
  if (!in.inside) return;
  typename Packs::P pack = Packs::load(dy + in.n * s.C + in.c);
  UNROLL for (int v = 0; v < Packs::columns; v++) pack.e[v] = T(float(pack.e[v]) * share);
  Packs::store(dx + in.offset, pack);
}

}  // namespace

void maxpool2d_forward(const Context& context, const Pool2d& s, const T* x, T* y, u8* index) {
  with_packs(s.C, are_aligned(x, y) && is_aligned(index, whole_pack), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, pool<Packs>, pixel_grid<Packs>(s.N * s.P * s.Q, s.C), threads, s, x, y, index);
  });
}
void maxpool2d_inference(const Context& context, const Pool2d& s, const T* x, T* y) { maxpool2d_forward(context, s, x, y, nullptr); }

void maxpool2d_backward(const Context& context, const Pool2d& s, const u8* index, const T* dy, T* dx) {
  with_packs(s.C, are_aligned(dy, dx) && is_aligned(index, whole_pack), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, gather<Packs>, pixel_grid<Packs>(s.N * s.H * s.W, s.C), threads, s, index, dy, dx);
  });
}

Plan global_avgpool_forward_plan(const Context&, const GlobalPool& s) {
  const Columns cut = cut_of(s);
  return {cut.chunks == 1 ? "whole" : "chunks", column_sums_scratch(cut)};
}

void global_avgpool_forward(const Context& context, const GlobalPool& s, const T* x, T* y, void* scratch) {
  with_packs(s.C, are_aligned(x), [&](auto packs) {
    sum_columns<decltype(packs)>(context, cut_of(s), DenseGroups{x, s.H * s.W, s.C}, ToMeans{y, s.C, share_of(s)}, scratch);
  });
}

void global_avgpool_backward(const Context& context, const GlobalPool& s, const T* dy, T* dx) {
  with_packs(s.C, are_aligned(dy, dx), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, spread<Packs>, pixel_grid<Packs>(s.N * s.H * s.W, s.C), threads, s, share_of(s), dy, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
