// Muon, as in cpu/muon.cpp: momentum, norms, Newton-Schulz iterations by the matrix products of this folder, the step.
#include "update.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int columns_of_rates = 7;

struct Parts {
  R *x, *next, *gram, *square;
  PairOfSums* piece;   // [matrix][piece]: of the direction and of the weights, sums of squares
  PairOfSums* matrix;  // [matrix]: norms
  void* product;       // scratch of the matrix products
  int64_t pieces, bytes;
};

template <class E>
E* take(char* base, int64_t& used, int64_t count) {
  E* part = reinterpret_cast<E*>(base ? base + used : nullptr);
  used += divide_up(count * int64_t(sizeof(E)), 256) * 256;
  return part;
}

Parts layout(const Context& context, const Muon& s, void* scratch) {
  Parts parts;
  char* const base = static_cast<char*>(scratch);
  int64_t used = 0;
  const int64_t size = s.rows * s.columns;
  parts.pieces = divide_up(size, update_piece);
  parts.x = take<R>(base, used, s.count * size);
  parts.next = take<R>(base, used, s.count * size);
  parts.gram = take<R>(base, used, s.count * s.small * s.small);
  parts.square = take<R>(base, used, s.count * s.small * s.small);
  parts.piece = take<PairOfSums>(base, used, s.count * parts.pieces);
  parts.matrix = take<PairOfSums>(base, used, s.count);
  const int64_t gram = matmul_plan(context, s.gram).scratch_bytes, square = matmul_plan(context, s.square).scratch_bytes;
  parts.product = take<char>(base, used, larger(larger(gram, square), matmul_plan(context, s.product).scratch_bytes));
  parts.bytes = used;
  return parts;
}

void multiply(const Context& context, const MatMul& s, const R* a, const R* b, R* y, void* scratch) {
  matmul(context, s, reinterpret_cast<const T*>(a), reinterpret_cast<const T*>(b), nullptr, reinterpret_cast<T*>(y), scratch);
}

__device__ __forceinline__ double at_least(double a, double least) { return a < least ? least : a; }  // NaN stays

// v and x, the direction; squares of the direction and of the weights
__global__ void direct(Batch<3> batch, R* x, PairOfSums* squares, const i64* group, const f64* rates) {
  const Piece piece = piece_of(batch, int(blockIdx.x));
  const f64* row = rates + group[piece.parameter] * columns_of_rates;
  const R momentum = R(row[2]), fresh = R(1 - row[2]);
  const bool nesterov = row[3] != 0;
  const R *const w = array_of(batch, piece, 0), *const g = array_of(batch, piece, 1);
  R* const v = array_of(batch, piece, 2);
  R* const own = x + piece.parameter * batch.size[0];
  const bool own_at_once = batch.size[0] % 4 == 0;  // x begins with a pack
  R u_squares = 0, w_squares = 0;
  for_quads(piece, [&](int64_t i, int64_t left) {
    const Quad weight = load_some<4>(w + i, left, batch.at_once), gradient = load_some<4>(g + i, left, batch.at_once);
    Quad velocity = load_some<4>(v + i, left, batch.at_once), u;
    UNROLL for (int k = 0; k < 4; k++) {
      velocity.e[k] = fmaf(fresh, gradient.e[k], momentum * velocity.e[k]);
      u.e[k] = nesterov ? fmaf(momentum, velocity.e[k] - gradient.e[k], gradient.e[k]) : velocity.e[k];
      u_squares = fmaf(u.e[k], u.e[k], u_squares), w_squares = fmaf(weight.e[k], weight.e[k], w_squares);
    }
    store_some(v + i, velocity, left, batch.at_once);
    store_some(own + i, u, left, own_at_once);
  });
  const PairOfSums sums = block_sums(u_squares, w_squares, shared<SumsOfWarps>());
  if (threadIdx.x == 0) squares[blockIdx.x] = sums;
}

__global__ void add_pieces(const PairOfSums* piece, int64_t pieces, int64_t matrices, PairOfSums* matrix) {
  const int64_t m = number_of_warp();
  if (m >= matrices) return;
  const double* const part = &piece[m * pieces].first;
  const double u = sum_parts(part, pieces, 2), w = sum_parts(part + 1, pieces, 2);
  if (is_first_lane()) matrix[m] = {::sqrt(u), ::sqrt(w)};
}

__global__ void scale(R* x, int64_t size, const PairOfSums* matrix, const i64* group, const f64* rates) {
  const int64_t m = blockIdx.y, i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (i >= size) return;
  const R factor = R(1 / at_least(matrix[m].first, rates[group[m] * columns_of_rates + 6]));
  const bool at_once = size % 4 == 0;  // x begins with a pack
  Quad quad = load_some<4>(x + m * size + i, size - i, at_once);
  UNROLL for (int k = 0; k < 4; k++) quad.e[k] *= factor;
  store_some(x + m * size + i, quad, size - i, at_once);
}

// gram = a I + b gram + c square: a small matrix
__global__ void combine(R* gram, const R* square, int64_t n, R a, R b, R c) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, at = blockIdx.y * n * n + i;
  if (i >= n * n) return;
  const R sum = fmaf(c, square[at], b * gram[at]);
  gram[at] = i % (n + 1) == 0 ? sum + a : sum;
}

__global__ void step(Batch<1> batch, const R* x, double rows, const PairOfSums* matrix, const i64* group, const f64* rates,
                     MovedTarget moved, int64_t first) {
  const Piece piece = piece_of(batch, int(blockIdx.x));
  const f64* row = rates + group[piece.parameter] * columns_of_rates;
  const double renormal = row[5] == 0 ? 1 : ::sqrt(rows) / at_least(matrix[piece.parameter].second, row[6]);
  const R keep = R((1 - row[0] * row[1]) * renormal), rate = R(-row[4]);
  R* const w = array_of(batch, piece, 0);
  const R* const own = x + piece.parameter * batch.size[0];
  R change = 0, size = 0;
  for_quads(piece, [&](int64_t i, int64_t left) {
    Quad weight = load_some<4>(w + i, left, batch.at_once);
    const Quad direction = load_some<4>(own + i, left, batch.size[0] % 4 == 0);
    UNROLL for (int k = 0; k < 4; k++) {
      const R before = weight.e[k], after = fmaf(rate, direction.e[k], keep * before);
      weight.e[k] = after;
      change = fmaf(after - before, after - before, change), size = fmaf(before, before, size);
    }
    store_some(w + i, weight, left, batch.at_once);
  });
  if (!moved.pieces) return;
  const PairOfSums sums = block_sums(change, size, shared<SumsOfWarps>());
  if (threadIdx.x == 0) moved.store(first + blockIdx.x, sums);
}

}  // namespace

Plan muon_step_plan(const Context& context, const Muon& s) {
  return {s.tall ? "newton_schulz_tall" : "newton_schulz", layout(context, s, nullptr).bytes};
}

void muon_step(const Context& context, const Muon& s, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
               const f64* rates, f64* moved, void* scratch) {
  if (s.count == 0) return;
  Parts parts = layout(context, s, scratch);
  const int64_t size = s.rows * s.columns, square = s.small * s.small;
  const auto grid = [&](int64_t elements) { return dim3(unsigned(divide_up(elements, update_threads)), unsigned(s.count)); };
  for_batches<3>(w, {w.data, g.data, v.data}, [&](const Batch<3>& batch, const First& first) {
    launch<SumsOfWarps>(context, direct, dim3(unsigned(batch.blocks)), update_threads, batch, parts.x + first.parameter * size,
                        parts.piece + first.piece, group + first.parameter, rates);
  });
  launch(context, add_pieces, warp_job_grid(s.count), warp_job_threads, parts.piece, parts.pieces, s.count, parts.matrix);
  launch(context, scale, grid(divide_up(size, 4)), update_threads, parts.x, size, parts.matrix, group, rates);
  for (int64_t k = 0; k < s.steps; k++) {
    multiply(context, s.gram, parts.x, parts.x, parts.gram, parts.product);
    multiply(context, s.square, parts.gram, parts.gram, parts.square, parts.product);
    launch(context, combine, grid(square), update_threads, parts.gram, parts.square, s.small, R(s.a), R(s.b), R(s.c));
    multiply(context, s.product, s.tall ? parts.x : parts.gram, s.tall ? parts.gram : parts.x, parts.next, parts.product);
    R* const x = parts.x;
    parts.x = parts.next, parts.next = x;
  }
  const MovedTarget target = {reinterpret_cast<PairOfSums*>(moved), s.pieces};
  for_batches<1>(w, {w.data}, [&](const Batch<1>& batch, const First& first) {
    launch<SumsOfWarps>(context, step, dim3(unsigned(batch.blocks)), update_threads, batch, parts.x + first.parameter * size,
                        double(s.rows), parts.matrix + first.parameter, group + first.parameter, rates, target, first.piece);
  });
}

}  // namespace fastnn::FASTNN_TABLE
