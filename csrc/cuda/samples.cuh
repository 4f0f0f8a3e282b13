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

// The n elements of a sample. A team's are side by side and its threads take packs of them in turn, read and written at once where all
// arrays and the size allow; a single thread's may lie `step` apart, and then neighbours read neighbouring addresses. Which element falls
// to which thread, and the order of sums, are functions of n alone.
template <class Team>
struct Line {
  int64_t n, step;
  bool at_once;

  template <class E>
  __device__ __forceinline__ Pack<E, pack_width> load(const E* x, int64_t c) const {
    if constexpr (Team::size > 1) {
      return load_some<pack_width>(x + c, n - c, at_once);
    } else {
      Pack<E, pack_width> pack;
      UNROLL for (int j = 0; j < pack_width; j++) pack.e[j] = c + j < n ? x[(c + j) * step] : E(0);
      return pack;
    }
  }
  template <class E>
  __device__ __forceinline__ void store(E* x, int64_t c, const Pack<E, pack_width>& pack) const {
    if constexpr (Team::size > 1) {
      store_some(x + c, pack, n - c, at_once);
    } else {
      UNROLL for (int j = 0; j < pack_width; j++) {
        if (c + j < n) x[(c + j) * step] = pack.e[j];
      }
    }
  }

  // body(c): the pack of elements c, c + 1, ...
  template <class F>
  __device__ __forceinline__ void for_packs(const F& body) const {
    for (int64_t c = Team::rank() * pack_width; c < n; c += Team::size * pack_width) body(c);
  }
  // x = the packs pack_at(c)
  template <class E, class F>
  __device__ __forceinline__ void fill(E* x, const F& pack_at) const {
    for_packs([&](int64_t c) { store(x, c, pack_at(c)); });
  }
  // The sum of the elements of terms(c), which gives a pack of float or double: those of a pack are added up in its type, all else in
  // float64. What lies behind the end is not added.
  template <class F>
  __device__ __forceinline__ double sum(const F& terms) const {
    double total = 0;
    for_packs([&](int64_t c) {
      const auto pack = terms(c);
      auto part = pack.e[0];
      UNROLL for (int j = 1; j < pack_width; j++) part += c + j < n ? pack.e[j] : 0;
      total += double(part);
    });
    return Team::sum(total);
  }
};

template <class E>
using Values = Pack<E, pack_width>;

// The pack of f(j)
template <class E, class F>
__device__ __forceinline__ Values<E> make_pack(const F& f) {
  Values<E> pack;
  UNROLL for (int j = 0; j < pack_width; j++) pack.e[j] = E(f(j));
  return pack;
}

// Of rows of C elements: whether all of their packs may be read and written at once
template <class... E>
bool rows_in_packs(int64_t C, const E*... p) {
  return C % pack_width == 0 && lie_in_packs<pack_width>(p...);
}

template <class Team>
__device__ __forceinline__ float largest_of(const Line<Team>& line, const T* z) {
  float top = -INFINITY;
  line.for_packs([&](int64_t c) {
    const Values<T> pack = line.load(z, c);
    UNROLL for (int j = 0; j < pack_width; j++) top = c + j < line.n ? fmaxf(top, float(pack.e[j])) : top;
  });
  return Team::max(top);
}

// The sum of e^(z - top)
template <class Team>
__device__ __forceinline__ double sum_of_powers(const Line<Team>& line, const T* z, float top) {
  return line.sum([&](int64_t c) {
    const Values<T> pack = line.load(z, c);
    return make_pack<float>([&](int j) { return expf(float(pack.e[j]) - top); });
  });
}

// log sum exp z = top + log_sum
struct LogSumExp {
  float top;
  double log_sum;
};

template <class Team>
__device__ LogSumExp log_sum_exp(const Line<Team>& line, const T* z) {
  const float top = largest_of(line, z);
  return {top, ::log(sum_of_powers(line, z, top))};
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

// Weights of a pack of classes; ones where there are none
template <class Team>
__device__ __forceinline__ Values<R> weights_of(const Line<Team>& line, const R* weight, int64_t c) {
  return weight ? line.load(weight, c) : make_pack<R>([](int) { return 1; });
}

// Where losses of samples go: each to its place, or with its weight into scratch, to be added up: many of them in chunks first.
struct SampleLosses {
  R* loss;
  Reduction reduction;
  double* waiting;  // [N] losses, then [N] weights; then those of chunks
  int64_t N;

  SampleLosses(R* loss, Reduction reduction, int64_t N, void* scratch)
      : loss(loss), reduction(reduction), waiting(static_cast<double*>(scratch)), N(N) {}
  static constexpr int64_t chunk = 8192;
  static int64_t chunks(int64_t N) { return N <= chunk ? 0 : divide_up(N, chunk); }
  static int64_t scratch_bytes(Reduction reduction, int64_t N) {
    return reduction == Reduction::none ? 0 : 2 * (N + chunks(N)) * int64_t(sizeof(double));
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

// What the block's threads have of losses [begin, end) and their weights, right in thread 0
__device__ __forceinline__ Sums<2> block_total(const SampleLosses& of, int64_t begin, int64_t end) {
  Sums<2> total;
  for (int64_t i = begin + threadIdx.x; i < end; i += total_threads) total.sum[0] += of.waiting[i], total.sum[1] += of.waiting[of.N + i];
  UNROLL for (int k = 0; k < 2; k++) total.sum[k] = warp_sum(total.sum[k]);
  auto& all = shared<Totals>();
  if (is_first_lane()) all.of_warp[threadIdx.x / warp_size] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < total_threads / warp_size; w++) total.join(all.of_warp[w]);
  }
  return total;
}

__global__ void add_up_chunks(SampleLosses of, double* sums) {
  const int64_t begin = blockIdx.x * SampleLosses::chunk;
  const Sums<2> total = block_total(of, begin, smaller(begin + SampleLosses::chunk, of.N));
  if (threadIdx.x == 0) sums[blockIdx.x] = total.sum[0], sums[gridDim.x + blockIdx.x] = total.sum[1];
}

// By one block: the losses' sum or their mean; and, if wanted, what the mean was divided by.
__global__ void add_up_losses(SampleLosses of, R* divisor) {
  const bool each = of.reduction == Reduction::none, mean = of.reduction == Reduction::mean;
  const Sums<2> total = block_total(of, 0, each ? 0 : of.N);
  if (threadIdx.x != 0) return;
  if (divisor) *divisor = mean ? R(total.sum[1]) : 1;
  if (!each) *of.loss = R(mean ? total.sum[0] / total.sum[1] : total.sum[0]);
}

inline void add_up(const Context& context, SampleLosses of, R* divisor = nullptr) {
  const bool each = of.reduction == Reduction::none;
  if (each && !divisor) return;
  if (const int64_t chunks = each ? 0 : SampleLosses::chunks(of.N)) {
    double* const sums = of.waiting + 2 * of.N;
    launch<Totals>(context, add_up_chunks, dim3(unsigned(chunks)), total_threads, of, sums);
    of.waiting = sums, of.N = chunks;
  }
  launch<Totals>(context, add_up_losses, dim3(1), total_threads, of, divisor);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
