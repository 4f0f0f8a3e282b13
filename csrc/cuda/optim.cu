// Optimizer steps: many parameters in one launch. Their pointers travel in the launch's own arguments; each block works on one parameter.
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int threads = 256;
constexpr int64_t elements_per_block = 4096;

// As many parameters as fit, with the kernel's other arguments, into the 4 KiB that every GPU takes. data[k][i]: array k of parameter i
template <int arrays>
struct Batch {
  static constexpr int most = (4096 - 64) / (arrays * 8 + 12);
  const R* data[arrays][most];
  int64_t size[most];
  int first_block[most];
  int count, blocks;
  bool at_once;  // whether all arrays lie at multiples of 16 bytes
};

// run(batch, first) for one batch of parameters after the other, `first` being the number of a batch's first. data[k]: the list of array k
template <int arrays, class F>
void for_batches(const List<R>& w, const R* const* const (&data)[arrays], const F& run) {
  for (int64_t first = 0; first < w.count;) {
    Batch<arrays> batch;
    batch.blocks = 0, batch.at_once = true;
    const int count = batch.count = int(smaller<int64_t>(Batch<arrays>::most, w.count - first));
    for (int i = 0; i < count; i++) {
      batch.size[i] = w.size[first + i];
      batch.first_block[i] = batch.blocks;
      batch.blocks += int(divide_up(batch.size[i], elements_per_block));
      for (int k = 0; k < arrays; k++) {
        batch.data[k][i] = data[k][first + i];
        batch.at_once = batch.at_once && is_aligned(batch.data[k][i], 16);
      }
    }
    run(batch, first);
    first += count;
  }
}

// Elements [begin, end) of a parameter: what a block works on
struct Piece {
  int parameter;
  int64_t begin, end;
};

// Array k of a piece's parameter; all but the gradient are written.
template <int arrays>
__device__ __forceinline__ R* array_of(const Batch<arrays>& batch, const Piece& piece, int k) {
  return const_cast<R*>(batch.data[k][piece.parameter]);
}

template <int arrays>
__device__ Piece piece_of(const Batch<arrays>& batch) {
  const int block = int(blockIdx.x);
  int low = 0, high = batch.count;  // the parameter is the last one that begins with this block or before
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (batch.first_block[middle] <= block ? low : high) = middle;
  }
  const int64_t begin = (block - batch.first_block[low]) * elements_per_block;
  return {low, begin, smaller(begin + elements_per_block, batch.size[low])};
}

// Four elements, or the `left` ones there are
using Quad = Pack<R, 4>;

__device__ __forceinline__ Quad load(const R* p, int64_t left, bool at_once) {
  if (at_once && left >= 4) return *reinterpret_cast<const Quad*>(p);
  Quad quad;
  UNROLL for (int k = 0; k < 4; k++) quad.e[k] = k < left ? p[k] : 0;
  return quad;
}

__device__ __forceinline__ void store(R* p, const Quad& quad, int64_t left, bool at_once) {
  if (at_once && left >= 4) {
    *reinterpret_cast<Quad*>(p) = quad;
    return;
  }
  UNROLL for (int k = 0; k < 4; k++) {
    if (k < left) p[k] = quad.e[k];
  }
}

__global__ void sgd(Batch<3> batch, const i64* group, const f64* rates) {
  const Piece piece = piece_of(batch);
  const f64* row = rates + group[piece.parameter] * 4;
  const R rate = R(-row[0]), decay = R(row[1]), momentum = R(row[2]);
  const bool has_momentum = row[2] != 0, nesterov = row[3] != 0;
  R *const w = array_of(batch, piece, 0), *const v = array_of(batch, piece, 2);
  const R* const g = array_of(batch, piece, 1);
  for (int64_t i = piece.begin + 4 * int64_t(threadIdx.x); i < piece.end; i += 4 * threads) {
    const int64_t left = piece.end - i;
    Quad weight = load(w + i, left, batch.at_once), step = load(g + i, left, batch.at_once), velocity{};
    if (has_momentum) velocity = load(v + i, left, batch.at_once);
    UNROLL for (int k = 0; k < 4; k++) {
      R& d = step.e[k];
      d = fmaf(decay, weight.e[k], d);
      if (has_momentum) {
        velocity.e[k] = fmaf(momentum, velocity.e[k], d);
        d = nesterov ? fmaf(momentum, velocity.e[k], d) : velocity.e[k];
      }
      weight.e[k] = fmaf(rate, d, weight.e[k]);
    }
    if (has_momentum) store(v + i, velocity, left, batch.at_once);
    store(w + i, weight, left, batch.at_once);
  }
}

struct AdamNumbers {
  R rate, decay, shrink;  // w = shrink w - rate m / (sqrt(v) root_correction + eps)
  R new_m, beta2, new_v, eps, root_correction;
};

__device__ AdamNumbers adam_numbers(const f64* rates, i64 t) {
  const double lr = rates[0], decay = rates[1], beta1 = rates[2], beta2 = rates[3];
  const bool decoupled = rates[5] != 0;
  AdamNumbers a;
  a.rate = R(-lr / (1 - ::pow(beta1, double(t))));
  a.decay = decoupled ? 0 : R(decay);
  a.shrink = decoupled ? R(1 - lr * decay) : 1;
  a.new_m = R(1 - beta1), a.beta2 = R(beta2), a.new_v = R(1 - beta2), a.eps = R(rates[4]);
  a.root_correction = R(1 / ::sqrt(1 - ::pow(beta2, double(t))));
  return a;
}

__global__ void adam(Batch<4> batch, const i64* group, const f64* rates, const i64* t) {
  const Piece piece = piece_of(batch);
  AdamNumbers& of_block = shared<AdamNumbers>();
  if (threadIdx.x == 0) of_block = adam_numbers(rates + group[piece.parameter] * 6, *t);
  __syncthreads();
  const AdamNumbers a = of_block;
  R *const w = array_of(batch, piece, 0), *const m = array_of(batch, piece, 2), *const v = array_of(batch, piece, 3);
  const R* const g = array_of(batch, piece, 1);
  for (int64_t i = piece.begin + 4 * int64_t(threadIdx.x); i < piece.end; i += 4 * threads) {
    const int64_t left = piece.end - i;
    Quad weight = load(w + i, left, batch.at_once), gradient = load(g + i, left, batch.at_once);
    Quad first = load(m + i, left, batch.at_once), second = load(v + i, left, batch.at_once);
    UNROLL for (int k = 0; k < 4; k++) {
      const R d = fmaf(a.decay, weight.e[k], gradient.e[k]);
      first.e[k] = fmaf(a.new_m, d - first.e[k], first.e[k]);
      second.e[k] = fmaf(a.new_v * d, d, a.beta2 * second.e[k]);
      const R root = fmaf(sqrtf(second.e[k]), a.root_correction, a.eps);
      weight.e[k] = fmaf(a.rate, first.e[k] / root, weight.e[k] * a.shrink);
    }
    store(m + i, first, left, batch.at_once);
    store(v + i, second, left, batch.at_once);
    store(w + i, weight, left, batch.at_once);
  }
}

}  // namespace

void sgd_step(const Context& context, const SGD&, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
              const f64* rates) {
  for_batches<3>(w, {w.data, g.data, v.data}, [&](const Batch<3>& batch, int64_t first) {
    launch(context, sgd, dim3(unsigned(batch.blocks)), threads, batch, group + first, rates);
  });
}

void adam_step(const Context& context, const Adam&, const List<R>& w, const List<const R>& g, const List<R>& m, const List<R>& v,
               const i64* group, const f64* rates, const i64* t) {
  for_batches<4>(w, {w.data, g.data, m.data, v.data}, [&](const Batch<4>& batch, int64_t first) {
    launch<AdamNumbers>(context, adam, dim3(unsigned(batch.blocks)), threads, batch, group + first, rates, t);
  });
}

}  // namespace fastnn::FASTNN_TABLE
