// A sample (a row of N x C) belongs to a thread, to a warp, or, where there are many classes, to a block; and losses of samples are added
// up in a fixed order.
#pragma once
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int block_team = 256;
constexpr int64_t most_classes_of_warp = 1024;

// The threads that share a sample. `size` is that of a thread, a warp or a block.
template <int size_>
struct Team {
  static constexpr int size = size_, samples_per_block = block_team / size;
  struct Warps {
    double of_warp[block_team / warp_size];
  };

  static __device__ int64_t sample() { return int64_t(blockIdx.x) * samples_per_block + threadIdx.x / size; }
  static __device__ int rank() { return int(threadIdx.x) % size; }

  template <class Join>
  static __device__ double over_block(double value, Join join) {
    if constexpr (size > warp_size) {
      double* const of_warp = shared<Warps>().of_warp;
      __syncthreads();
      if (threadIdx.x % warp_size == 0) of_warp[threadIdx.x / warp_size] = value;
      __syncthreads();
      value = of_warp[0];
      for (int w = 1; w < size / warp_size; w++) value = join(value, of_warp[w]);
    }
    return value;
  }
  static __device__ double sum(double value) {
    if constexpr (size == 1) return value;
    return over_block(warp_sum(value), [](double a, double b) { return a + b; });
  }
  static __device__ float max(float value) {
    if constexpr (size == 1) return value;
    return float(over_block(double(warp_max(value)), [](double a, double b) { return a > b ? a : b; }));
  }
};

// The sum of term(c) over c in [0, C)
template <class Team, class F>
__device__ __forceinline__ double team_sum(int64_t C, const F& term) {
  double total = 0;
  for (int64_t c = Team::rank(); c < C; c += Team::size) total += double(term(c));
  return Team::sum(total);
}

// log sum exp z = top + log_sum, of C numbers `step` apart
struct LogSumExp {
  float top;
  double log_sum;
};

template <class Team>
__device__ LogSumExp log_sum_exp(const T* z, int64_t C, int64_t step = 1) {
  LogSumExp lse;
  lse.top = -INFINITY;
  for (int64_t c = Team::rank(); c < C; c += Team::size) lse.top = fmaxf(lse.top, float(z[c * step]));
  lse.top = Team::max(lse.top);
  lse.log_sum = ::log(team_sum<Team>(C, [&](int64_t c) { return expf(float(z[c * step]) - lse.top); }));
  return lse;
}

// body(Team): the team's size is a function of the number of classes
template <class F>
void with_team(int64_t C, const F& body) {
  if (C <= most_classes_of_warp) return body(Team<warp_size>{});
  body(Team<block_team>{});
}

template <class Team>
dim3 sample_grid(int64_t N) {
  return dim3(unsigned(divide_up(N, Team::samples_per_block)));
}

__device__ __forceinline__ double weight_of(const R* weight, int64_t c) { return weight ? double(weight[c]) : 1; }

// Where losses of samples go: each to its place, or with its weight into scratch, to be added up.
struct SampleLosses {
  R* loss;
  Reduction reduction;
  double* waiting;  // [N] losses, then [N] weights
  int64_t N;

  SampleLosses(R* loss, Reduction reduction, int64_t N, void* scratch)
      : loss(loss), reduction(reduction), waiting(static_cast<double*>(scratch)), N(N) {}
  static int64_t scratch_bytes(Reduction reduction, int64_t N) {
    return reduction == Reduction::none ? 0 : 2 * N * int64_t(sizeof(double));
  }
  __device__ __forceinline__ void put(int64_t i, double value, double weight) const {
    if (reduction == Reduction::none)
      loss[i] = R(value);
    else
      waiting[i] = value, waiting[N + i] = weight;
  }
};

constexpr int total_threads = 256;

struct Totals {
  Sums<2> of_warp[total_threads / warp_size];  // of losses and of weights
};

// By one block: the losses' sum or their mean; and, if wanted, what the mean was divided by.
__global__ void add_up_losses(SampleLosses of, R* divisor) {
  Sums<2> total;
  const bool each = of.reduction == Reduction::none, mean = of.reduction == Reduction::mean;
  for (int64_t i = threadIdx.x; i < (each ? 0 : of.N); i += total_threads)
    total.sum[0] += of.waiting[i], total.sum[1] += of.waiting[of.N + i];
  UNROLL for (int k = 0; k < 2; k++) total.sum[k] = warp_sum(total.sum[k]);
  auto& all = shared<Totals>();
  if (is_first_lane()) all.of_warp[threadIdx.x / warp_size] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < total_threads / warp_size; w++) total.join(all.of_warp[w]);
  if (divisor) *divisor = mean ? R(total.sum[1]) : 1;
  if (!each) *of.loss = R(mean ? total.sum[0] / total.sum[1] : total.sum[0]);
}

inline void add_up(const Context& context, const SampleLosses& of, R* divisor = nullptr) {
  if (of.reduction == Reduction::none && !divisor) return;
  launch<Totals>(context, add_up_losses, dim3(1), total_threads, of, divisor);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
