// Layer and group normalisation: a block of threads has one group of one sample, which it reads three times: for the mean, for the squared
// distances from it, and for y. A layer's row is a sample of one group and one pixel. Sums over samples, for gamma and beta, run over
// columns.
#include "columns.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Norm {
  int64_t N, pixels, C, groups;
  double eps;
  explicit Norm(const LayerNorm& s) : N(s.rows), pixels(1), C(s.D), groups(1), eps(s.eps) {}
  explicit Norm(const GroupNorm& s) : N(s.N), pixels(s.pixels), C(s.C), groups(s.groups), eps(s.eps) {}
  __host__ __device__ int64_t channels() const { return C / groups; }
  __host__ __device__ int64_t count() const { return pixels * channels(); }
  dim3 grid() const { return dim3(unsigned(N * groups)); }
  int threads() const { return count() <= 1024 ? warp_size : 256; }
};

// The elements of the block's group: neighbouring threads have neighbouring channels.
struct Group {
  int64_t first, C, channels, first_channel;
  __device__ Group(const Norm& s, int64_t block)
      : first(block / s.groups * s.pixels * s.C), C(s.C), channels(s.channels()), first_channel(block % s.groups * channels) {}
  __device__ __forceinline__ int64_t channel(int64_t i) const { return first_channel + i % channels; }
  __device__ __forceinline__ int64_t offset(int64_t i) const { return first + i / channels * C + channel(i); }
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

// The sums of two addends over the group's elements, term(i, t): eight in float32, all else in float64.
template <class Term>
__device__ __forceinline__ Sums<2> sum_group(int64_t count, const Term& term) {
  constexpr int stretch = 8;
  Sums<2> own;
  for (int64_t first = threadIdx.x; first < count; first += stretch * blockDim.x) {
    float sum[2] = {};
    for (int j = 0; j < stretch; j++) {
      const int64_t i = first + int64_t(j) * blockDim.x;
      if (i >= count) break;
      float t[2];
      term(i, t);
      sum[0] += t[0], sum[1] += t[1];
    }
    UNROLL for (int k = 0; k < 2; k++) own.sum[k] += double(sum[k]);
  }
  return sum_over_block(own);
}

__global__ void normalize_groups(Norm s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd) {
  const Group group(s, blockIdx.x);
  const int64_t count = s.count();
  const float origin = float(x[group.offset(0)]);  // distances from a neighbour are finer than the numbers
  const Sums<2> sums = sum_group(count, [&](int64_t i, float(&t)[2]) { t[0] = float(x[group.offset(i)]) - origin, t[1] = 0; });
  const double to_center = sums.sum[0] / double(count);
  const float shift = float(to_center);
  const Sums<2> squares = sum_group(count, [&](int64_t i, float(&t)[2]) {
    t[0] = float(x[group.offset(i)]) - origin - shift;
    t[1] = t[0] * t[0];
  });
  const double drift = squares.sum[0] / double(count), variance = squares.sum[1] / double(count) - drift * drift;
  const float center = float(double(origin) + double(shift) + drift), scale = float(1 / ::sqrt(variance + s.eps));
  if (threadIdx.x == 0) mean[blockIdx.x] = center, rstd[blockIdx.x] = scale;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const int64_t c = group.channel(i), at = group.offset(i);
    y[at] = T(fmaf((float(x[at]) - center) * scale, gamma ? gamma[c] : 1, beta ? beta[c] : 0));
  }
}

// With g = dy gamma and n = (x - mean) rstd: dx = rstd (g - mean of g - n (mean of g n)).
__global__ void make_dx(Norm s, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd, T* dx) {
  const Group group(s, blockIdx.x);
  const int64_t count = s.count();
  const float center = mean[blockIdx.x], scale = rstd[blockIdx.x];
  const auto gradient = [&](int64_t i) { return float(dy[group.offset(i)]) * (gamma ? gamma[group.channel(i)] : 1); };
  const auto normal = [&](int64_t i) { return (float(x[group.offset(i)]) - center) * scale; };
  const Sums<2> sums = sum_group(count, [&](int64_t i, float(&t)[2]) { t[0] = gradient(i), t[1] = t[0] * normal(i); });
  const float mean_g = float(sums.sum[0] / double(count)), along = float(sums.sum[1] / double(count));
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) dx[group.offset(i)] = T(scale * fmaf(-normal(i), along, gradient(i) - mean_g));
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
  launch<WarpSums>(context, normalize_groups, s.grid(), s.threads(), s, x, gamma, beta, y, mean, rstd);
}

void differentiate(const Context& context, const Norm& s, bool affine, const T* x, const T* dy, const R* gamma, const R* mean,
                   const R* rstd, T* dx, R* dgamma, R* dbeta, void* scratch) {
  launch<WarpSums>(context, make_dx, s.grid(), s.threads(), s, x, dy, gamma, mean, rstd, dx);
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
