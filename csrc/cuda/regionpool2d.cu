// Maximum over listed regions (fractional and adaptive max pooling), and the random regions of the fractional one.
#include "../windows.h"
#include "pixels.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class Packs>
using IndexPack = Pack<u8, Packs::columns>;

struct Borders {  // of a sample's regions: rows, then columns
  const i64 *begin, *end;
  __device__ Borders(const RegionPool2d& s, const i64* regions, int64_t n)
      : begin(regions + (s.per_sample ? n : 0) * 2 * (s.P + s.Q)), end(begin + s.P + s.Q) {}
};

// How many of the numbers, which never fall, are at most `limit`.
__device__ __forceinline__ int64_t count_up_to(const i64* numbers, int64_t count, int64_t limit) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (numbers[middle] <= limit)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__global__ void lay(FractionalRegions s, const i64* state, i64* regions) {
  const int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n < s.N) lay_regions_of_sample(s, state, n, regions);
}

// The best of a region's elements. A NaN is taken once and stays: v > NaN is false, and so is NaN == NaN.
template <class Packs>
__global__ void pool_regions(RegionPool2d s, const T* x, const i64* regions, T* y, u8* index) {
  const Pixel out(s.N, s.P, s.Q, s.C, Packs::columns);
  if (!out.inside) return;
  const Borders of(s, regions, out.n);
  const int64_t h = of.begin[out.h], w = of.begin[s.P + out.w];
  const int rows = int(of.end[out.h] - h), columns = int(of.end[s.P + out.w] - w);
  const T* const corner = x + ((out.n * s.H + h) * s.W + w) * s.C + out.c;
  float best[Packs::columns] = {};
  IndexPack<Packs> at{};
  for (int r = 0; r < rows; r++) {
    for (int q = 0; q < columns; q++) {
      const typename Packs::P here = Packs::load(corner + (r * s.W + q) * s.C);
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        const float value = float(here.e[v]);
        if (r + q == 0 || (!(value <= best[v]) && best[v] == best[v])) best[v] = value, at.e[v] = u8(r * s.S + q);
      }
    }
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(best[v]);
  Packs::store(y + out.offset, to);
  Packs::store(index + out.offset, at);
}

__global__ void locate(PoolPlaces s, const u8* index, const i64* regions, i64* place) {
  const Pixel out(s.N, s.P, s.Q, s.C, 1);
  if (!out.inside) return;
  const i64* const begin = regions + (s.per_sample ? out.n : 0) * 2 * (s.P + s.Q);
  const int64_t at = index[out.offset];
  place[out.offset] = (begin[out.h] + at / s.S * s.dilation_h) * s.W + begin[s.P + out.w] + at % s.S * s.dilation_w;
}

// Each input pixel gathers from the regions that have it, in order.
template <class Packs>
__global__ void gather_regions(RegionPool2d s, const u8* index, const i64* regions, const T* dy, T* dx) {
  const Pixel in(s.N, s.H, s.W, s.C, Packs::columns);
  if (!in.inside) return;
  const Borders of(s, regions, in.n);
  const int64_t p_begin = count_up_to(of.end, s.P, in.h), p_end = count_up_to(of.begin, s.P, in.h);
  const int64_t q_begin = count_up_to(of.end + s.P, s.Q, in.w), q_end = count_up_to(of.begin + s.P, s.Q, in.w);
  float sum[Packs::columns] = {};
  for (int64_t p = p_begin; p < p_end; p++) {
    for (int64_t q = q_begin; q < q_end; q++) {
      const int64_t out = ((in.n * s.P + p) * s.Q + q) * s.C + in.c;
      const int here = int((in.h - of.begin[p]) * s.S + in.w - of.begin[s.P + q]);
      const IndexPack<Packs> at = Packs::load(index + out);
      const typename Packs::P from = Packs::load(dy + out);
      UNROLL for (int v = 0; v < Packs::columns; v++) sum[v] += at.e[v] == here ? float(from.e[v]) : 0;
    }
  }
  typename Packs::P to;
  UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = T(sum[v]);
  Packs::store(dx + in.offset, to);
}

}  // namespace

void fractional_regions(const Context& context, const FractionalRegions& s, const i64* state, i64* regions) {
  launch(context, lay, dim3(unsigned(divide_up(s.N, threads))), threads, s, state, regions);
}

void pool_places(const Context& context, const PoolPlaces& s, const u8* index, const i64* regions, i64* place) {
  launch(context, locate, dim3(unsigned(divide_up(s.N * s.P * s.Q * s.C, threads))), threads, s, index, regions, place);
}

void regionpool2d_forward(const Context& context, const RegionPool2d& s, const T* x, const i64* regions, T* y, u8* index) {
  with_packs(s.C, are_aligned(x, y) && is_aligned(index, whole_pack), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, pool_regions<Packs>, pixel_grid<Packs>(s.N * s.P * s.Q, s.C), threads, s, x, regions, y, index);
  });
}

void regionpool2d_backward(const Context& context, const RegionPool2d& s, const u8* index, const i64* regions, const T* dy, T* dx) {
  with_packs(s.C, are_aligned(dy, dx) && is_aligned(index, whole_pack), [&](auto packs) {
    using Packs = decltype(packs);
    launch(context, gather_regions<Packs>, pixel_grid<Packs>(s.N * s.H * s.W, s.C), threads, s, index, regions, dy, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
