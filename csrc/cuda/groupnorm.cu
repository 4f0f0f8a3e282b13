// Layer and group normalisation: a block of threads has one group of one sample, which it reads three times: for the mean, for the squared
// distances from it, and for y. A layer's row is a sample of one group and one pixel. Sums over samples, for gamma and beta, run over
// columns. Where the channels of a group are made of packs, a thread takes packs, else single elements; which is a function of the shape.
#include "columns.cuh"
#include "walk.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Norm {
  int64_t N, pixels, C, groups;
  double eps;
  Divisor by_channels;
  explicit Norm(const LayerNorm& s) : N(s.rows), pixels(1), C(s.D), groups(1), eps(s.eps), by_channels(divisor()) {}
  explicit Norm(const GroupNorm& s) : N(s.N), pixels(s.pixels), C(s.C), groups(s.groups), eps(s.eps), by_channels(divisor()) {}
  bool is_small() const { return count() <= INT32_MAX; }  // so that a Divisor does
  Divisor divisor() const { return is_small() ? Divisor(larger<int64_t>(1, channels())) : Divisor(); }
  __host__ __device__ int64_t channels() const { return C / groups; }
  __host__ __device__ int64_t count() const { return pixels * channels(); }
  dim3 grid() const { return dim3(unsigned(N * groups)); }
  int threads() const { return count() <= 1024 ? warp_size : 256; }
};

// The elements of the block's group: neighbouring threads have neighbouring channels.
struct Group {
  int64_t first, C, channels, first_channel;
  Divisor by_channels;
  bool small;
  __device__ Group(const Norm& s, int64_t block)
      : first(block / s.groups * s.pixels * s.C),
        C(s.C),
        channels(s.channels()),
        first_channel(block % s.groups * channels),
        by_channels(s.by_channels),
        small(s.count() <= INT32_MAX) {}

  struct Place {
    int64_t channel, offset;
  };
  __device__ __forceinline__ Place place(int64_t i) const {
    const int64_t pixel = small ? int64_t(by_channels.divide(uint32_t(i))) : i / channels, channel = first_channel + i - pixel * channels;
    return {channel, first + pixel * C + channel};
  }
};

struct WarpSums {
  double sum[2][256 / warp_size];
};

// What all threads of the block have, added up in the order of warps; every thread gets it.
__device__ __forceinline__ Sums<2> sum_over_block(Sums<2> own) {
  auto& all = shared<WarpSums>();
  const int warps = int(blockDim.x) / warp_size;
  __syncthreads();
  UNROLL for (int k = 0; k < 2; k++) {
    const double of_warp = warp_sum(own.sum[k]);
    if (is_first_lane()) all.sum[k][threadIdx.x / warp_size] = of_warp;
  }
  __syncthreads();
  Sums<2> total;
  for (int warp = 0; warp < warps; warp++) {
    UNROLL for (int k = 0; k < 2; k++) total.sum[k] += all.sum[k][warp];
  }
  return total;
}

// The sums of two addends over the group's elements, term(i, t) for those of a pack: eight in float32, all else in float64.
template <int width, class Term>
__device__ __forceinline__ Sums<2> sum_group(int64_t count, const Term& term) {
  constexpr int stretch = 8 / width;
  Sums<2> own;
  for (int64_t first = int64_t(threadIdx.x) * width; first < count; first += stretch * width * int64_t(blockDim.x)) {
    float sum[2] = {};
    for (int j = 0; j < stretch; j++) {
      const int64_t i = first + int64_t(j) * width * blockDim.x;
      if (i >= count) break;
      float t[2][width];
      term(i, t);
      UNROLL for (int v = 0; v < width; v++) sum[0] += t[0][v], sum[1] += t[1][v];
    }
    UNROLL for (int k = 0; k < 2; k++) own.sum[k] += double(sum[k]);
  }
  return sum_over_block(own);
}

template <int width>
__device__ __forceinline__ Pack<R, width> load_or(R value, const R* p, int64_t channel, bool at_once) {
  if (p) return load_some<width>(p + channel, width, at_once);
  Pack<R, width> pack;
  UNROLL for (int v = 0; v < width; v++) pack.e[v] = value;
  return pack;
}

template <int width>
__global__ void normalize_groups(Norm s, bool at_once, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd) {
  const Group group(s, blockIdx.x);
  const int64_t count = s.count();
  const float origin = float(x[group.place(0).offset]);  // distances from a neighbour are finer than the numbers
  const auto load = [&](int64_t i) { return load_some<width>(x + group.place(i).offset, width, at_once); };
  const Sums<2> sums = sum_group<width>(count, [&](int64_t i, float(&t)[2][width]) {
    const Pack<T, width> from = load(i);
    UNROLL for (int v = 0; v < width; v++) t[0][v] = float(from.e[v]) - origin, t[1][v] = 0;
  });
  const double to_center = sums.sum[0] / double(count);
  const float shift = float(to_center);
  const Sums<2> squares = sum_group<width>(count, [&](int64_t i, float(&t)[2][width]) {
    const Pack<T, width> from = load(i);
    UNROLL for (int v = 0; v < width; v++) t[0][v] = float(from.e[v]) - origin - shift, t[1][v] = t[0][v] * t[0][v];
  });
  const double drift = squares.sum[0] / double(count), variance = squares.sum[1] / double(count) - drift * drift;
  const float center = float(double(origin) + double(shift) + drift), scale = float(1 / ::sqrt(variance + s.eps));
  if (threadIdx.x == 0) mean[blockIdx.x] = center, rstd[blockIdx.x] = scale;
  for (int64_t i = int64_t(threadIdx.x) * width; i < count; i += int64_t(blockDim.x) * width) {
    const Group::Place at = group.place(i);
    Pack<T, width> pack = load_some<width>(x + at.offset, width, at_once);
    const Pack<R, width> factor = load_or<width>(1, gamma, at.channel, at_once), added = load_or<width>(0, beta, at.channel, at_once);
    UNROLL for (int v = 0; v < width; v++) pack.e[v] = T(fmaf((float(pack.e[v]) - center) * scale, factor.e[v], added.e[v]));
    store_some(y + at.offset, pack, width, at_once);
  }
}

// With g = dy gamma and n = (x - mean) rstd: dx = rstd (g - mean of g - n (mean of g n)).
template <int width>
__global__ void make_dx(Norm s, bool at_once, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd, T* dx) {
  const Group group(s, blockIdx.x);
  const int64_t count = s.count();
  const float center = mean[blockIdx.x], scale = rstd[blockIdx.x];
  const auto load = [&](const Group::Place& at, float(&gradient)[width], float(&normal)[width]) {
    const Pack<T, width> d = load_some<width>(dy + at.offset, width, at_once), from = load_some<width>(x + at.offset, width, at_once);
    const Pack<R, width> factor = load_or<width>(1, gamma, at.channel, at_once);
    UNROLL for (int v = 0; v < width; v++) gradient[v] = float(d.e[v]) * factor.e[v], normal[v] = (float(from.e[v]) - center) * scale;
  };
  const Sums<2> sums = sum_group<width>(count, [&](int64_t i, float(&t)[2][width]) {
    load(group.place(i), t[0], t[1]);
    UNROLL for (int v = 0; v < width; v++) t[1][v] *= t[0][v];
  });
  const float mean_g = float(sums.sum[0] / double(count)), along = float(sums.sum[1] / double(count));
  for (int64_t i = int64_t(threadIdx.x) * width; i < count; i += int64_t(blockDim.x) * width) {
    const Group::Place at = group.place(i);
    float gradient[width], normal[width];
    load(at, gradient, normal);
    Pack<T, width> to;
    UNROLL for (int v = 0; v < width; v++) to.e[v] = T(scale * fmaf(-normal[v], along, gradient[v] - mean_g));
    store_some(dx + at.offset, to, width, at_once);
  }
}

// The sums of dy and of dy (x - mean) rstd, channel by channel, over samples and pixels.
template <class Packs_>
struct AffineSums {
  using Packs = Packs_;
  using Cell = Sums<2>;
  Norm s;
  int64_t chunks;
  const T *x, *dy;
  const R *mean, *rstd;
  double* part;  // [2][chunk][channel]

  __device__ void take(const Place<Packs>& place, Cell (&cell)[Packs::columns]) const {
    constexpr int stretch = 4;
    const Rows<const T> x_rows(x, s.C, place.column), dy_rows(dy, s.C, place.column);
    for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
      typename Packs::P from[stretch], dfrom[stretch];
      const int n = load_rows<Packs>(place, x_rows, row, from);
      load_rows<Packs>(place, dy_rows, row, dfrom);
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        float sum = 0, along = 0;
        UNROLL for (int i = 0; i < stretch; i++) {
          if (i >= n) continue;
          const int64_t group = (row + i * place.step) / s.pixels * s.groups + (place.column + v) / s.channels();
          const float d = float(dfrom[i].e[v]);
          sum += d;
          along = fmaf(d, (float(from[i].e[v]) - mean[group]) * rstd[group], along);
        }
        cell[v].sum[0] += double(sum), cell[v].sum[1] += double(along);
      }
    }
  }
  __device__ void finish(const Place<Packs>& place, const Cell (&cell)[Packs::columns]) const {
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      UNROLL for (int k = 0; k < 2; k++) part[(k * chunks + place.chunk) * s.C + place.column + v] = cell[v].sum[k];
    }
  }
};

__global__ void join_affine_sums(int64_t C, const double* part, int64_t parts, R* dgamma, R* dbeta) {
  const int64_t c = number_of_warp();
  if (c >= C) return;
  const double sum = sum_parts(part + c, parts, C), along = sum_parts(part + parts * C + c, parts, C);
  if (is_first_lane()) dbeta[c] = R(sum), dgamma[c] = R(along);
}

Columns cut_of(const Norm& s) { return {1, s.N * s.pixels, s.C, usual_blocks}; }

int64_t affine_scratch(const Norm& s, bool affine) { return affine ? 2 * cut_of(s).chunks * s.C * int64_t(sizeof(double)) : 0; }

void normalize(const Context& context, const Norm& s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd) {
  const bool packs = s.channels() % whole_pack == 0, at_once = packs && lie_in_packs<whole_pack>(x, gamma, beta, y);
  launch<WarpSums>(context, packs ? normalize_groups<whole_pack> : normalize_groups<1>, s.grid(), s.threads(), s, at_once, x, gamma, beta,
                   y, mean, rstd);
}

void differentiate(const Context& context, const Norm& s, bool affine, const T* x, const T* dy, const R* gamma, const R* mean,
                   const R* rstd, T* dx, R* dgamma, R* dbeta, void* scratch) {
  const bool packs = s.channels() % whole_pack == 0, at_once = packs && lie_in_packs<whole_pack>(x, dy, gamma, dx);
  launch<WarpSums>(context, packs ? make_dx<whole_pack> : make_dx<1>, s.grid(), s.threads(), s, at_once, x, dy, gamma, mean, rstd, dx);
  if (!affine) return;
  const Columns cut = cut_of(s);
  double* part = static_cast<double*>(scratch);
  with_packs(s.C, are_aligned(x, dy),
             [&](auto packs) { run_on(cut, context, AffineSums<decltype(packs)>{s, cut.chunks, x, dy, mean, rstd, part}); });
  launch(context, join_affine_sums, warp_job_grid(s.C), warp_job_threads, s.C, part, cut.chunks, dgamma, dbeta);
}

}  // namespace

void layernorm_forward(const Context& context, const LayerNorm& s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd) {
  normalize(context, Norm(s), x, gamma, beta, y, mean, rstd);
}

Plan layernorm_backward_plan(const Context&, const LayerNorm& s) { return {"three passes", affine_scratch(Norm(s), s.affine)}; }
void layernorm_backward(const Context& context, const LayerNorm& s, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd,
                        T* dx, R* dgamma, R* dbeta, void* scratch) {
  differentiate(context, Norm(s), s.affine, x, dy, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
}

Plan groupnorm_forward_plan(const Context&, const GroupNorm&) { return {"a block a group", 0}; }
void groupnorm_forward(const Context& context, const GroupNorm& s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd,
                       void*) {
  normalize(context, Norm(s), x, gamma, beta, y, mean, rstd);
}

Plan groupnorm_backward_plan(const Context&, const GroupNorm& s) { return {"three passes", affine_scratch(Norm(s), s.affine)}; }
void groupnorm_backward(const Context& context, const GroupNorm& s, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd,
                        T* dx, R* dgamma, R* dbeta, void* scratch) {
  differentiate(context, Norm(s), s.affine, x, dy, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
}

}  // namespace fastnn::FASTNN_TABLE
