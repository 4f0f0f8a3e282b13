// Losses of single elements, added up in chunks; and penalties on weights.
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int threads = 256, most_chunks = 512;
constexpr int64_t least_chunk = 2048;

struct WarpTotals {
  double of_warp[threads / warp_size];
};

// The sum over a block's threads, right in thread 0
__device__ double block_sum(double value) {
  auto& all = shared<WarpTotals>();
  value = warp_sum(value);
  if (is_first_lane()) all.of_warp[threadIdx.x / warp_size] = value;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (int w = 0; w < threads / warp_size; w++) total += all.of_warp[w];
  }
  return total;
}

template <class F, class Y>
__global__ void each_element(int64_t n, F f, Y* y) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < n) y[i] = Y(f(i));
}

template <class F>
__global__ void sum_chunks(int64_t n, int64_t chunk, F f, double* partial) {
  const int64_t begin = int64_t(blockIdx.x) * chunk, end = smaller(begin + chunk, n);
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += threads) sum += double(f(i));
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// value = the partial sums, added up by one block, / divisor
__global__ void add_up_parts(const double* partial, int64_t count, double divisor, R* value) {
  double sum = 0;
  for (int64_t k = threadIdx.x; k < count; k += threads) sum += partial[k];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *value = R(sum / divisor);
}

int64_t chunk_of(int64_t n) { return larger(least_chunk, divide_up(n, most_chunks)); }

template <class F, class Y>
void for_each_element(const Context& context, int64_t n, const F& f, Y* y) {
  void (*const kernel)(int64_t, F, Y*) = each_element<F, Y>;
  launch(context, kernel, dim3(unsigned(divide_up(n, threads))), threads, n, f, y);
}

Plan plan_of(Reduction reduction, int64_t n) {
  if (reduction == Reduction::none) return {"each", 0};
  return {"chunks", divide_up(n, chunk_of(n)) * int64_t(sizeof(double))};
}

// f(i) for every element: each into loss, or the sum of all
template <class F>
void reduce_elements(const Context& context, Reduction reduction, int64_t n, const F& f, R* loss, void* scratch) {
  if (reduction == Reduction::none) return for_each_element(context, n, f, loss);
  double* const partial = static_cast<double*>(scratch);
  const int64_t chunks = divide_up(n, chunk_of(n));
  launch<WarpTotals>(context, sum_chunks<F>, dim3(unsigned(chunks)), threads, n, chunk_of(n), f, partial);
  launch<WarpTotals>(context, add_up_parts, dim3(1), threads, partial, chunks, reduction == Reduction::mean ? double(n) : 1.0, loss);
}

// What a slope is multiplied by: dloss / divisor
struct Scale {
  const R* dloss;
  double divisor;
  bool each;
  Scale(Reduction reduction, int64_t n, const R* dloss)
      : dloss(dloss), divisor(reduction == Reduction::mean ? double(n) : 1), each(reduction == Reduction::none) {}
  __device__ __forceinline__ float at(int64_t i) const { return each ? float(dloss[i]) : float(double(*dloss) / divisor); }
};

struct LossOfElement {
  float width, curve, slope;
  const T *x, *target;
  LossOfElement(const ElementLoss& s, const T* x, const T* target)
      : width(float(s.width)), curve(float(s.curve)), slope(float(s.slope)), x(x), target(target) {}
  __device__ __forceinline__ float difference(int64_t i) const { return float(x[i]) - float(target[i]); }
  __device__ __forceinline__ float operator()(int64_t i) const {
    const float d = fabsf(difference(i));
    return d <= width ? curve * d * d : slope * (d - width / 2);
  }
};

struct SlopeOfElement {
  LossOfElement of;
  Scale scale;
  __device__ __forceinline__ float operator()(int64_t i) const {
    const float d = of.difference(i);
    const float straight = d > of.width ? of.slope : d < -of.width ? -of.slope : d;  // NaN: itself
    return (fabsf(d) <= of.width ? 2 * of.curve * d : straight) * scale.at(i);
  }
};

struct BinaryLoss {
  const T *x, *target;
  const R *weight, *positive;
  __device__ __forceinline__ float operator()(int64_t i) const {
    const float z = float(x[i]), t = float(target[i]), hit = positive ? positive[i] * t : t;
    const float rest = log1pf(expf(-fabsf(z)));  // log(1 + e^z) = rest + max(z, 0); NaN stays
    const float l = fmaf(1 - t, rest + (z <= 0 ? 0 : z), hit * (rest + (z >= 0 ? 0 : -z)));
    return weight ? weight[i] * l : l;
  }
};

// w (1 - t - (1 + (p - 1) t) (1 - logistic(x)))
struct BinarySlope {
  BinaryLoss of;
  Scale scale;
  __device__ __forceinline__ float operator()(int64_t i) const {
    const float z = float(of.x[i]), t = float(of.target[i]);
    const float e = expf(-fabsf(z)), larger_part = 1 / (1 + e), smaller_part = e * larger_part;
    const float p = z < 0 ? smaller_part : larger_part, complement = z < 0 ? larger_part : smaller_part;
    const float d = (1 - t) * p - (of.positive ? of.positive[i] * t : t) * complement;
    return (of.weight ? of.weight[i] * d : d) * scale.at(i);
  }
};

// --- penalties: many weights in one launch, their pointers in its arguments. Each weight is cut into `parts` chunks.

constexpr int parts = 32;

struct Weights {
  static constexpr int most = 160;
  const R* w[most];
  R* g[most];
  int64_t size[most];
};

// run(weights, first, count): weights first, first + 1, ... of the list
template <class F>
void for_weights(const List<const R>& w, R* const* g, const F& run) {
  for (int64_t first = 0; first < w.count; first += Weights::most) {
    Weights some{};
    const int count = int(smaller<int64_t>(Weights::most, w.count - first));
    for (int i = 0; i < count; i++) {
      some.w[i] = w.data[first + i], some.size[i] = w.size[first + i];
      some.g[i] = g ? g[first + i] : nullptr;
    }
    run(some, first, dim3(parts, unsigned(count)));
  }
}

struct Chunk {
  int64_t begin, end;
  __device__ __forceinline__ explicit Chunk(int64_t size) {
    const int64_t length = divide_up(size, parts);
    begin = smaller(blockIdx.x * length, size), end = smaller(begin + length, size);
  }
};

__global__ void sum_penalties(Weights of, double l1, double l2, double* partial) {
  const Chunk chunk(of.size[blockIdx.y]);
  const R* w = of.w[blockIdx.y];
  double squares = 0, sizes = 0;
  for (int64_t i = chunk.begin + threadIdx.x; i < chunk.end; i += threads) {
    const double a = double(w[i]);
    squares += a * a, sizes += a < 0 ? -a : a;
  }
  const double sum = block_sum((l2 != 0 ? l2 * squares : 0) + (l1 != 0 ? l1 * sizes : 0));
  if (threadIdx.x == 0) partial[blockIdx.y * parts + blockIdx.x] = sum;
}

__global__ void make_penalty_slopes(Weights of, double l1, double l2, const R* dvalue) {
  const Chunk chunk(of.size[blockIdx.y]);
  const R* w = of.w[blockIdx.y];
  R* g = of.g[blockIdx.y];
  const float slope = float(2 * l2 * double(*dvalue)), step = float(l1 * double(*dvalue));
  for (int64_t i = chunk.begin + threadIdx.x; i < chunk.end; i += threads) {
    const float a = w[i], sign = a > 0 ? 1 : a < 0 ? -1 : a;
    g[i] = fmaf(slope, a, step * sign);
  }
}

}  // namespace

Plan element_loss_forward_plan(const Context&, const ElementLoss& s) { return plan_of(s.reduction, s.n); }

void element_loss_forward(const Context& context, const ElementLoss& s, const T* x, const T* target, R* loss, void* scratch) {
  reduce_elements(context, s.reduction, s.n, LossOfElement(s, x, target), loss, scratch);
}

void element_loss_backward(const Context& context, const ElementLoss& s, const T* x, const T* target, const R* dloss, T* dx) {
  for_each_element(context, s.n, SlopeOfElement{LossOfElement(s, x, target), Scale(s.reduction, s.n, dloss)}, dx);
}

Plan binary_cross_entropy_forward_plan(const Context&, const BinaryCrossEntropy& s) { return plan_of(s.reduction, s.n); }

void binary_cross_entropy_forward(const Context& context, const BinaryCrossEntropy& s, const T* x, const T* target, const R* weight,
                                  const R* positive, R* loss, void* scratch) {
  reduce_elements(context, s.reduction, s.n, BinaryLoss{x, target, weight, positive}, loss, scratch);
}

void binary_cross_entropy_backward(const Context& context, const BinaryCrossEntropy& s, const T* x, const T* target, const R* weight,
                                   const R* positive, const R* dloss, T* dx) {
  for_each_element(context, s.n, BinarySlope{BinaryLoss{x, target, weight, positive}, Scale(s.reduction, s.n, dloss)}, dx);
}

Plan penalty_forward_plan(const Context&, const Penalty& s) { return {"chunks", s.count * parts * int64_t(sizeof(double))}; }

void penalty_forward(const Context& context, const Penalty& s, const List<const R>& w, R* value, void* scratch) {
  double* const partial = static_cast<double*>(scratch);
  for_weights(w, nullptr, [&](const Weights& some, int64_t first, dim3 grid) {
    launch<WarpTotals>(context, sum_penalties, grid, threads, some, s.l1, s.l2, partial + first * parts);
  });
  launch<WarpTotals>(context, add_up_parts, dim3(1), threads, partial, s.count * parts, 1.0, value);
}

void penalty_backward(const Context& context, const Penalty& s, const List<const R>& w, const R* dvalue, const List<R>& g) {
  for_weights(w, g.data, [&](const Weights& some, int64_t, dim3 grid) {
    launch(context, make_penalty_slopes, grid, threads, some, s.l1, s.l2, dvalue);
  });
}

}  // namespace fastnn::FASTNN_TABLE
