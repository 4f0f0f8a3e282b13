// Softmax and cross-entropy in one: the log-sum-exp of each row is kept, the softmax never stored. A sample belongs to a warp, or, where
// there are many classes, to a block.
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int block_team = 256;
constexpr int64_t most_classes_of_warp = 1024;

// The threads that share a sample. `size` is that of a warp or of a block.
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
    return over_block(warp_sum(value), [](double a, double b) { return a + b; });
  }
  static __device__ float max(float value) {
    return float(over_block(double(warp_max(value)), [](double a, double b) { return a > b ? a : b; }));
  }
};

// body(Team): the team's size is a function of the shape
template <class F>
void with_team(const CrossEntropy& s, const F& body) {
  if (s.C <= most_classes_of_warp) return body(Team<warp_size>{});
  body(Team<block_team>{});
}

template <class Team>
dim3 sample_grid(const CrossEntropy& s) {
  return dim3(unsigned(divide_up(s.N, Team::samples_per_block)));
}

__device__ __forceinline__ double weight_of(const R* weight, int64_t c) { return weight ? double(weight[c]) : 1; }

// sum over c of w[c], which smoothing spreads
template <class Team>
__device__ double sum_weights(const CrossEntropy& s, const R* weight) {
  if (!weight || s.smoothing == 0) return double(s.C);
  double total = 0;
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) total += double(weight[c]);
  return Team::sum(total);
}

// lse of each sample; with reduction none its loss too, from the parts of lse, so that no digits are lost to a large maximum
template <class Team>
__global__ void take_log_sum_exp(CrossEntropy s, const T* logits, const i64* labels, const R* weight, R* loss, R* lse) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  float top = -INFINITY;
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) top = fmaxf(top, float(z[c]));
  top = Team::max(top);
  double sum = 0;
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) sum += double(expf(float(z[c]) - top));
  const double log_sum = ::log(Team::sum(sum));
  if (Team::rank() == 0) lse[i] = R(double(top) + log_sum);
  if (s.reduction != CrossEntropy::none) return;
  const int64_t label = labels[i];
  double l = 0;
  if (label != s.ignore_index) {
    l = weight_of(weight, label) * (1 - s.smoothing) * (log_sum + (double(top) - double(z[label])));
    if (s.smoothing > 0) {
      double distances = 0;
      for (int64_t c = Team::rank(); c < s.C; c += Team::size) distances += weight_of(weight, c) * (double(top) - double(z[c]));
      l += s.smoothing / double(s.C) * (Team::sum(distances) + log_sum * sum_weights<Team>(s, weight));
    }
  }
  if (Team::rank() == 0) loss[i] = R(l);
}

// --- over all samples, by one block

constexpr int total_threads = 256;

struct Totals {
  Sums<2> of_warp[total_threads / warp_size];  // of losses and of weights
};

// A thread's share of both sums: every 256th sample's own term, every 8th sample's spread term with the rest of its warp.
__device__ Sums<2> share_of_losses(const CrossEntropy& s, const T* logits, const i64* labels, const R* weight, const R* lse) {
  Sums<2> share;
  for (int64_t i = threadIdx.x; i < s.N; i += total_threads) {
    const int64_t label = labels[i];
    if (label == s.ignore_index) continue;
    const double w = weight_of(weight, label);
    share.sum[0] += w * (1 - s.smoothing) * (double(lse[i]) - double(logits[i * s.C + label]));
    share.sum[1] += w;
  }
  if (s.smoothing == 0) return share;
  const double spread = s.smoothing / double(s.C);
  for (int64_t i = threadIdx.x / warp_size; i < s.N; i += total_threads / warp_size) {
    if (labels[i] == s.ignore_index) continue;
    for (int64_t c = threadIdx.x % warp_size; c < s.C; c += warp_size)
      share.sum[0] += spread * weight_of(weight, c) * (double(lse[i]) - double(logits[i * s.C + c]));
  }
  return share;
}

__global__ void add_up_losses(CrossEntropy s, const T* logits, const i64* labels, const R* weight, const R* lse, R* loss, R* divisor) {
  Sums<2> total;
  if (s.reduction != CrossEntropy::none) total = share_of_losses(s, logits, labels, weight, lse);
  UNROLL for (int k = 0; k < 2; k++) total.sum[k] = warp_sum(total.sum[k]);
  auto& all = shared<Totals>();
  if (is_first_lane()) all.of_warp[threadIdx.x / warp_size] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < total_threads / warp_size; w++) total.join(all.of_warp[w]);
  const bool mean = s.reduction == CrossEntropy::mean;
  *divisor = mean ? R(total.sum[1]) : 1;
  if (s.reduction != CrossEntropy::none) *loss = R(mean ? total.sum[0] / total.sum[1] : total.sum[0]);
}

// --- backward

// dz_c = (softmax_c (w_t (1 - e) + e / C sum w) - e / C w_c - [c = t] w_t (1 - e)) dloss / divisor
template <class Team>
__global__ void make_dx(CrossEntropy s, const T* logits, const i64* labels, const R* weight, const R* lse, const R* divisor, const R* dloss,
                        T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  T* dz = dx + i * s.C;
  const int64_t label = labels[i];
  const bool counts = label != s.ignore_index;
  const double all_weights = sum_weights<Team>(s, weight), spread = s.smoothing / double(s.C);
  const double scale = double(dloss[s.reduction == CrossEntropy::none ? i : 0]) / double(*divisor);
  const double hit = counts ? weight_of(weight, label) * (1 - s.smoothing) : 0;
  const float share = float(scale * (hit + spread * all_weights)), even = float(scale * spread), of_label = float(scale * hit);
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) {
    const float softmax = expf(float(z[c]) - lse[i]);
    const float d = fmaf(share, softmax, -(even * float(weight_of(weight, c))));
    dz[c] = T(!counts ? 0.0f : c == label ? d - of_label : d);
  }
}

}  // namespace

void cross_entropy_forward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight, R* loss,
                           R* lse, R* divisor) {
  with_team(s, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, take_log_sum_exp<Team>, sample_grid<Team>(s), block_team, s, logits, labels, weight, loss, lse);
  });
  launch<Totals>(context, add_up_losses, dim3(1), total_threads, s, logits, labels, weight, lse, loss, divisor);
}

void cross_entropy_backward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight,
                            const R* lse, const R* divisor, const R* dloss, T* dx) {
  with_team(s, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, make_dx<Team>, sample_grid<Team>(s), block_team, s, logits, labels, weight, lse, divisor, dloss,
                                 dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
