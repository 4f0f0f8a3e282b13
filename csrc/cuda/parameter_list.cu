// What goes over a whole list of parameters or gradients beside the optimizers: the global norm, clipping, averages.
#include "update.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int norm_parts = 256;  // blocks of a norm: each takes every 256th piece of a batch, batch after batch

__global__ void add_squares(Batch<1> batch, double* part, bool begin) {
  SumsOfWarps& warps = shared<SumsOfWarps>();
  double sum = 0;
  for (int block = int(blockIdx.x); block < batch.blocks; block += norm_parts) {
    const Piece piece = piece_of(batch, block);
    const R* const g = array_of(batch, piece, 0);
    R squares = 0;
    for_quads(piece, [&](int64_t i, int64_t left) {
      const Quad x = load_some<4>(g + i, left, batch.at_once);
      UNROLL for (int k = 0; k < 4; k++) squares = fmaf(x.e[k], x.e[k], squares);
    });
    sum += squares;
  }
  const PairOfSums all = block_sums(sum, 0, warps);
  if (threadIdx.x == 0) part[blockIdx.x] = begin ? all.first : part[blockIdx.x] + all.first;
}

__global__ void finish_norm(const double* part, f64* norm, bool any) {
  const double sum = any ? sum_parts(part, norm_parts, 1) : 0;
  if (is_first_lane()) *norm = ::sqrt(sum);
}

// change(factor, elements of each array) on every element of the lists. `number` lies on the device.
template <int arrays, class Change>
__global__ void for_each(Batch<arrays> batch, Change change) {
  const Piece piece = piece_of(batch, int(blockIdx.x));
  const R factor = change.factor();
  if (change.nothing(factor)) return;
  for_quads(piece, [&](int64_t i, int64_t left) {
    Quad quads[arrays];
    UNROLL for (int a = 0; a < arrays; a++) quads[a] = load_some<4>(array_of(batch, piece, a) + i, left, batch.at_once);
    UNROLL for (int k = 0; k < 4; k++) {
      R e[arrays];
      UNROLL for (int a = 0; a < arrays; a++) e[a] = quads[a].e[k];
      change.apply(factor, e);
      UNROLL for (int a = 0; a < arrays; a++) quads[a].e[k] = e[a];
    }
    UNROLL for (int a = 0; a < Change::written; a++) store_some(array_of(batch, piece, a) + i, quads[a], left, batch.at_once);
  });
}

struct Number {
  const f64* number;
  __device__ __forceinline__ R factor() const { return R(*number); }
  __device__ __forceinline__ bool nothing(R) const { return false; }
};

struct ClipNorm {
  static constexpr int written = 1;
  const f64 *norm, *limit;
  __device__ __forceinline__ R factor() const {
    const double share = *limit / (*norm + 1e-6);
    return share >= 1 ? R(1) : R(share);
  }
  __device__ __forceinline__ bool nothing(R factor) const { return factor == 1; }
  __device__ __forceinline__ void apply(R factor, R (&e)[1]) const { e[0] *= factor; }
};

struct ClipValue : Number {
  static constexpr int written = 1;
  __device__ __forceinline__ void apply(R most, R (&e)[1]) const { e[0] = e[0] > most ? most : e[0] < -most ? -most : e[0]; }
};

struct Average : Number {
  static constexpr int written = 1;
  __device__ __forceinline__ void apply(R share, R (&e)[2]) const { e[0] = share == 1 ? e[1] : fmaf(share, e[1] - e[0], e[0]); }
};

struct Lookahead : Number {
  static constexpr int written = 2;
  __device__ __forceinline__ void apply(R share, R (&e)[2]) const { e[0] = e[1] = fmaf(share, e[1] - e[0], e[0]); }
};

struct Exchange {
  static constexpr int written = 2;
  __device__ __forceinline__ R factor() const { return 0; }
  __device__ __forceinline__ bool nothing(R) const { return false; }
  __device__ __forceinline__ void apply(R, R (&e)[2]) const {
    const R first = e[0];
    e[0] = e[1], e[1] = first;
  }
};

template <int arrays, class Change>
void run(const Context& context, const List<R>& list, const R* const* const (&data)[arrays], const Change& change) {
  for_batches(list, data, [&](const Batch<arrays>& batch, const First&) {
    launch(context, for_each<arrays, Change>, dim3(unsigned(batch.blocks)), update_threads, batch, change);
  });
}

}  // namespace

Plan global_norm_plan(const Context&, const ParameterList&) { return {"parts", norm_parts * int64_t(sizeof(double))}; }

void global_norm(const Context& context, const ParameterList& s, const List<const R>& g, f64* norm, void* scratch) {
  double* const part = static_cast<double*>(scratch);
  for_batches<1>(g, {g.data}, [&](const Batch<1>& batch, const First& first) {
    launch<SumsOfWarps>(context, add_squares, dim3(norm_parts), update_threads, batch, part, first.parameter == 0);
  });
  launch(context, finish_norm, dim3(1), warp_size, part, norm, s.count > 0);
}

void clip_norm(const Context& context, const ParameterList&, const List<R>& g, const f64* norm, const f64* limit) {
  run<1>(context, g, {g.data}, ClipNorm{norm, limit});
}

void clip_value(const Context& context, const ParameterList&, const List<R>& g, const f64* limit) {
  run<1>(context, g, {g.data}, ClipValue{{limit}});
}

void average(const Context& context, const ParameterList&, const List<R>& a, const List<const R>& w, const f64* share) {
  run<2>(context, a, {a.data, w.data}, Average{{share}});
}

void lookahead(const Context& context, const ParameterList&, const List<R>& slow, const List<R>& w, const f64* share) {
  run<2>(context, slow, {slow.data, w.data}, Lookahead{{share}});
}

void exchange(const Context& context, const ParameterList&, const List<R>& a, const List<R>& b) {
  run<2>(context, a, {a.data, b.data}, Exchange{});
}

}  // namespace fastnn::FASTNN_TABLE
