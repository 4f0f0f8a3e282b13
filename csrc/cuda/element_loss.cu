// Losses of single elements, added up in chunks; and penalties on weights. A thread takes packs of neighbours, read at once where all
// arrays allow it; which, and in which order they are added, is a function of the number of elements.
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

// f.pack(i, left, at_once): a pack of results for elements i, i + 1, ..., of which `left` are there
template <class F, class Y>
__global__ void each_element(int64_t n, bool at_once, F f, Y* y) {
  const int64_t i = (int64_t(blockIdx.x) * threads + threadIdx.x) * pack_width;
  if (i >= n) return;
  const Pack<float, pack_width> results = f.pack(i, n - i, at_once);
  Pack<Y, pack_width> to;
  UNROLL for (int j = 0; j < pack_width; j++) to.e[j] = Y(results.e[j]);
  store_some(y + i, to, n - i, at_once);
}

template <class F>
__global__ void sum_chunks(int64_t n, int64_t chunk, bool at_once, F f, double* partial) {
  const int64_t begin = int64_t(blockIdx.x) * chunk, end = smaller(begin + chunk, n);
  double sum = 0;
  for (int64_t i = begin + int64_t(threadIdx.x) * pack_width; i < end; i += threads * pack_width) {
    const Pack<float, pack_width> results = f.pack(i, end - i, at_once);
    float part = results.e[0];
    UNROLL for (int j = 1; j < pack_width; j++) part += i + j < end ? results.e[j] : 0;
    sum += double(part);
  }
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

int64_t chunk_of(int64_t n) { return divide_up(larger(least_chunk, divide_up(n, most_chunks)), pack_width) * pack_width; }

template <class F, class Y>
void for_each_element(const Context& context, int64_t n, const F& f, Y* y) {
  void (*const kernel)(int64_t, bool, F, Y*) = each_element<F, Y>;
  const bool at_once = f.lies_in_packs() && lie_in_packs<pack_width>(y);
  launch(context, kernel, dim3(unsigned(divide_up(n, threads * pack_width))), threads, n, at_once, f, y);
}

Plan plan_of(Reduction reduction, int64_t n) {
  if (reduction == Reduction::none) return {"each", 0};
  return {"chunks", divide_up(n, chunk_of(n)) * int64_t(sizeof(double))};
}

// Each element's loss into `loss`, or the sum of all
template <class F>
void reduce_elements(const Context& context, Reduction reduction, int64_t n, const F& f, R* loss, void* scratch) {
  if (reduction == Reduction::none) return for_each_element(context, n, f, loss);
  double* const partial = static_cast<double*>(scratch);
  const int64_t chunk = chunk_of(n), chunks = divide_up(n, chunk);
  launch<WarpTotals>(context, sum_chunks<F>, dim3(unsigned(chunks)), threads, n, chunk, f.lies_in_packs(), f, partial);
  launch<WarpTotals>(context, add_up_parts, dim3(1), threads, partial, chunks, reduction == Reduction::mean ? double(n) : 1.0, loss);
}

template <class F>
__device__ __forceinline__ Pack<float, pack_width> make_pack(const F& f) {
  Pack<float, pack_width> pack;
  UNROLL for (int j = 0; j < pack_width; j++) pack.e[j] = f(j);
  return pack;
}

// What slopes are multiplied by: dloss / divisor
struct Scale {
  const R* dloss;
  double divisor;
  bool each;
  Scale(Reduction reduction, int64_t n, const R* dloss)
      : dloss(dloss), divisor(reduction == Reduction::mean ? double(n) : 1), each(reduction == Reduction::none) {}
  bool lies_in_packs() const { return !each || lie_in_packs<pack_width>(dloss); }
  __device__ __forceinline__ Pack<float, pack_width> pack(int64_t i, int64_t left, bool at_once) const {
    if (each) return load_some<pack_width>(dloss + i, left, at_once);
    const float all = float(double(*dloss) / divisor);
    return make_pack([&](int) { return all; });
  }
};

struct LossOfElement {
  float width, curve, slope;
  const T *x, *target;
  LossOfElement(const ElementLoss& s, const T* x, const T* target)
      : width(float(s.width)), curve(float(s.curve)), slope(float(s.slope)), x(x), target(target) {}
  bool lies_in_packs() const { return lie_in_packs<pack_width>(x, target); }
  __device__ __forceinline__ Pack<float, pack_width> differences(int64_t i, int64_t left, bool at_once) const {
    const auto a = load_some<pack_width>(x + i, left, at_once), b = load_some<pack_width>(target + i, left, at_once);
    return make_pack([&](int j) { return float(a.e[j]) - float(b.e[j]); });
  }
  __device__ __forceinline__ Pack<float, pack_width> pack(int64_t i, int64_t left, bool at_once) const {
    const auto difference = differences(i, left, at_once);
    return make_pack([&](int j) {
      const float d = fabsf(difference.e[j]);
      return d <= width ? curve * d * d : slope * (d - width / 2);
    });
  }
};

struct SlopeOfElement {
  LossOfElement of;
  Scale scale;
  bool lies_in_packs() const { return of.lies_in_packs() && scale.lies_in_packs(); }
  __device__ __forceinline__ Pack<float, pack_width> pack(int64_t i, int64_t left, bool at_once) const {
    const auto difference = of.differences(i, left, at_once), factor = scale.pack(i, left, at_once);
    return make_pack([&](int j) {
      const float d = difference.e[j];
      const float straight = d > of.width ? of.slope : d < -of.width ? -of.slope : d;  // NaN: itself
      return (fabsf(d) <= of.width ? 2 * of.curve * d : straight) * factor.e[j];
    });
  }
};

struct BinaryLoss {
  const T *x, *target;
  const R *weight, *positive;
  struct Operands {
    Pack<T, pack_width> x, target;
    Pack<R, pack_width> weight, positive;  // ones where there are none
  };
  bool lies_in_packs() const { return lie_in_packs<pack_width>(x, target, weight, positive); }
  __device__ __forceinline__ Operands operands(int64_t i, int64_t left, bool at_once) const {
    const auto or_ones = [&](const R* p) { return p ? load_some<pack_width>(p + i, left, at_once) : make_pack([](int) { return 1.0f; }); };
    return {load_some<pack_width>(x + i, left, at_once), load_some<pack_width>(target + i, left, at_once), or_ones(weight),
            or_ones(positive)};
  }
  __device__ __forceinline__ Pack<float, pack_width> pack(int64_t i, int64_t left, bool at_once) const {
    const Operands of = operands(i, left, at_once);
    return make_pack([&](int j) {
      const float z = float(of.x.e[j]), t = float(of.target.e[j]), hit = of.positive.e[j] * t;
      const float rest = log1pf(expf(-fabsf(z)));  // log(1 + e^z) = rest + max(z, 0); NaN stays
      return of.weight.e[j] * fmaf(1 - t, rest + (z <= 0 ? 0 : z), hit * (rest + (z >= 0 ? 0 : -z)));
    });
  }
};

// w (1 - t - (1 + (p - 1) t) (1 - logistic(x)))
struct BinarySlope {
  BinaryLoss loss;
  Scale scale;
  bool lies_in_packs() const { return loss.lies_in_packs() && scale.lies_in_packs(); }
  __device__ __forceinline__ Pack<float, pack_width> pack(int64_t i, int64_t left, bool at_once) const {
    const BinaryLoss::Operands of = loss.operands(i, left, at_once);
    const auto factor = scale.pack(i, left, at_once);
    return make_pack([&](int j) {
      const float z = float(of.x.e[j]), t = float(of.target.e[j]);
      const float e = expf(-fabsf(z)), larger_part = 1 / (1 + e), smaller_part = e * larger_part;
      const float p = z < 0 ? smaller_part : larger_part, complement = z < 0 ? larger_part : smaller_part;
      const float d = (1 - t) * p - (of.positive.e[j] * t) * complement;
      return (of.weight.e[j] * d) * factor.e[j];
    });
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

// body(element, left, at_once) for this thread's share of the block's chunk: four elements at a time, of which `left` are there
template <class F>
__device__ __forceinline__ void for_quads(const Weights& of, const F& body) {
  const int64_t size = of.size[blockIdx.y], length = divide_up(divide_up(size, parts), 4) * 4;
  const int64_t begin = blockIdx.x * length, end = smaller(begin + length, size);
  const auto in_packs = [](const R* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool at_once = in_packs(of.w[blockIdx.y]) && in_packs(of.g[blockIdx.y]);
  for (int64_t i = begin + 4 * int64_t(threadIdx.x); i < end; i += 4 * threads) body(i, end - i, at_once);
}

__global__ void sum_penalties(Weights of, double l1, double l2, double* partial) {
  double squares = 0, sizes = 0;
  for_quads(of, [&](int64_t i, int64_t left, bool at_once) {
    const Pack<R, 4> w = load_some<4>(of.w[blockIdx.y] + i, left, at_once);
    UNROLL for (int k = 0; k < 4; k++) {
      const double a = double(w.e[k]);
      squares += a * a, sizes += a < 0 ? -a : a;
    }
  });
  const double sum = block_sum((l2 != 0 ? l2 * squares : 0) + (l1 != 0 ? l1 * sizes : 0));
  if (threadIdx.x == 0) partial[blockIdx.y * parts + blockIdx.x] = sum;
}

__global__ void make_penalty_slopes(Weights of, double l1, double l2, const R* dvalue) {
  const float slope = float(2 * l2 * double(*dvalue)), step = float(l1 * double(*dvalue));
  for_quads(of, [&](int64_t i, int64_t left, bool at_once) {
    Pack<R, 4> w = load_some<4>(of.w[blockIdx.y] + i, left, at_once);
    UNROLL for (int k = 0; k < 4; k++) {
      const float a = w.e[k], sign = a > 0 ? 1 : a < 0 ? -1 : a;
      w.e[k] = fmaf(slope, a, step * sign);
    }
    store_some(of.g[blockIdx.y] + i, w, left, at_once);
  });
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
