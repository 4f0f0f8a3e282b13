// Muon: momentum, then the nearest orthogonal matrix by Newton-Schulz iterations (K. Jordan and others 2024), for matrices of one size.
// x x^T does not feel in which order columns stand, so weights (K, C, R, S) are taken as they lie: K rows of R S C.
#include "update.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Norms {
  double u, w;  // sums of squares of a piece, later the norms of a matrix
};

struct Parts {
  R *x, *next, *gram, *square;
  Norms* piece;   // [matrix][piece]
  Norms* matrix;  // [matrix]
  void* product;  // scratch of the matrix products
  int64_t pieces, bytes;
};

Parts layout(const Context& context, const Muon& s, void* base) {
  Parts parts;
  Scratch scratch(base);
  const int64_t size = s.rows * s.columns;
  parts.pieces = divide_up(size, update_piece);
  parts.x = scratch.take<R>(s.count * size);
  parts.next = scratch.take<R>(s.count * size);
  parts.gram = scratch.take<R>(s.count * s.small * s.small);
  parts.square = scratch.take<R>(s.count * s.small * s.small);
  parts.piece = scratch.take<Norms>(s.count * parts.pieces);
  parts.matrix = scratch.take<Norms>(s.count);
  const int64_t gram = matmul_plan(context, s.gram).scratch_bytes, square = matmul_plan(context, s.square).scratch_bytes;
  parts.product = scratch.take<char>(larger(larger(gram, square), matmul_plan(context, s.product).scratch_bytes));
  parts.bytes = scratch.bytes();
  return parts;
}

void multiply(const Context& context, const MatMul& s, const R* a, const R* b, R* y, void* scratch) {
  matmul(context, s, reinterpret_cast<const T*>(a), reinterpret_cast<const T*>(b), nullptr, reinterpret_cast<T*>(y), scratch);
}

// v, x = the direction, and what of the norms is in one piece
INLINE Norms direct(const R* w, const R* g, R* v, R* x, int64_t begin, int64_t end, const f64* row) {
  const vec momentum = set(R(row[2])), fresh = set(R(1 - row[2]));
  const bool nesterov = row[3] != 0;
  vec u_squares{}, w_squares{};
  for_vectors(begin, end, [&](int64_t i, auto load, auto store) {
    const vec gradient = load(g + i), velocity = fma(fresh, gradient, momentum * load(v + i)), weight = load(w + i);
    const vec u = nesterov ? fma(momentum, velocity - gradient, gradient) : velocity;
    store(v + i, velocity);
    store(x + i, u);
    u_squares = fma(u, u, u_squares), w_squares = fma(weight, weight, w_squares);
  });
  return {double(sum_lanes(u_squares)), double(sum_lanes(w_squares))};
}

void add_pieces(const Muon& s, const Parts& parts) {
  for (int64_t m = 0; m < s.count; m++) {
    Norms sum = {0, 0};
    for (int64_t k = 0; k < parts.pieces; k++) sum.u += parts.piece[m * parts.pieces + k].u, sum.w += parts.piece[m * parts.pieces + k].w;
    parts.matrix[m] = {__builtin_sqrt(sum.u), __builtin_sqrt(sum.w)};
  }
}

INLINE double at_least(double a, double least) { return a < least ? least : a; }  // NaN stays

// gram = a I + b gram + c square
void combine(const Context& context, const Muon& s, const Parts& parts) {
  const vec b = set(R(s.b)), c = set(R(s.c));
  const int64_t n = s.small, rows = s.count * n, per_block = divide_up(elements_per_block, n);
  parallel(context, divide_up(rows, per_block), [&](int64_t block, int) {
    for (int64_t row = block * per_block; row < smaller(rows, (block + 1) * per_block); row++) {
      R* const gram = parts.gram + row * n;
      const R* const square = parts.square + row * n;
      for_vectors(0, n, [&](int64_t i, auto load, auto store) { store(gram + i, fma(c, load(square + i), b * load(gram + i))); });
      gram[row % n] += R(s.a);
    }
  });
}

}  // namespace

Plan muon_step_plan(const Context& context, const Muon& s) {
  return {s.tall ? "newton_schulz_tall" : "newton_schulz", layout(context, s, nullptr).bytes};
}

void muon_step(const Context& context, const Muon& s, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
               const f64* rates, f64* moved, void* scratch) {
  Parts parts = layout(context, s, scratch);
  const int64_t size = s.rows * s.columns;
  const auto row_of = [&](int64_t m) { return rates + group[m] * 7; };
  for_pieces(context, w.size, w.count, [&](int64_t m, int64_t begin, int64_t end, int64_t number) {
    parts.piece[number] = direct(w.data[m], g.data[m], v.data[m], parts.x + m * size, begin, end, row_of(m));
  });
  add_pieces(s, parts);
  for_pieces(context, w.size, w.count, [&](int64_t m, int64_t begin, int64_t end, int64_t) {
    R* const x = parts.x + m * size;
    const vec factor = set(R(1 / at_least(parts.matrix[m].u, row_of(m)[6])));
    for_vectors(begin, end, [=](int64_t i, auto load, auto store) { store(x + i, factor * load(x + i)); });
  });
  for (int64_t step = 0; step < s.steps; step++) {
    multiply(context, s.gram, parts.x, parts.x, parts.gram, parts.product);
    multiply(context, s.square, parts.gram, parts.gram, parts.square, parts.product);
    combine(context, s, parts);
    multiply(context, s.product, s.tall ? parts.x : parts.gram, s.tall ? parts.gram : parts.x, parts.next, parts.product);
    R* const x = parts.x;
    parts.x = parts.next, parts.next = x;
  }
  update(context, s, w, moved, [&](int64_t m, const auto& run) {
    const f64* row = row_of(m);
    const double scale = row[5] == 0 ? 1 : __builtin_sqrt(double(s.rows)) / at_least(parts.matrix[m].w, row[6]);
    const R keep = R((1 - row[0] * row[1]) * scale), rate = R(-row[4]);
    const R* const x = parts.x + m * size;
    run([=](int64_t i, vec weight, auto load, auto) { return fma(set(rate), load(x + i), set(keep) * weight); });
  });
}

}  // namespace fastnn::FASTNN_TABLE
