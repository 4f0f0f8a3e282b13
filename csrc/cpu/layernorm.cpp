// Normalisation of rows by their own mean and variance, y = gamma (x - mean) rstd + beta. A block has several whole rows; each is read
// again from the cache: for the mean, for the squared distances from it, for y.
#include "elements.h"
#include "sum_lanes.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_blocks = 64;  // of backward: each keeps sums for gamma and beta
constexpr int64_t rows_of_sum = 64;  // of those: as many numbers in a row are added up, then their sums, which loses fewer digits

int64_t rows_of_block(const LayerNorm& s) { return larger(1, 32768 / s.D); }
int64_t rows_of_backward_block(const LayerNorm& s) { return larger(rows_of_block(s), divide_up(s.rows, most_blocks)); }

// sums[k] = sum over i < D of the k-th addend; term(i, t, load) gives the addends of a vector
template <int n, class Term>
INLINE void sum_row(int64_t D, real (&sums)[n], const Term& term) {
  constexpr int vectors = 4;
  constexpr int64_t stretch = 16 * vectors * N_LANES;  // numbers added up before their sum joins the total: less is rounded away
  vec total[n] = {};
  for (int64_t begin = 0; begin < D; begin += stretch) {
    const int64_t end = smaller(begin + stretch, D);
    int64_t i = begin;
    vec s[vectors][n] = {};
    for (; i + vectors * N_LANES <= end; i += vectors * N_LANES) UNROLL for (int v = 0; v < vectors; v++) {
        vec t[n];
        term(i + v * N_LANES, t, [](const auto* p) { return load(p); });
        UNROLL for (int k = 0; k < n; k++) s[v][k] += t[k];
      }
    for_vectors(i, end, [&](int64_t at, auto load_part, auto store_part) {
      vec t[n];
      term(at, t, load_part);
      UNROLL for (int k = 0; k < n; k++) {
        real part[N_LANES] = {};
        store_part(part, t[k]);  // 0 in the lanes beyond the row, whatever the addend makes of nothing
        s[0][k] += load(part);
      }
    });
    UNROLL for (int k = 0; k < n; k++) total[k] += (s[0][k] + s[1][k]) + (s[2][k] + s[3][k]);
  }
  for (int k = 0; k < n; k++) sums[k] = sum_lanes(total[k]);
}

struct RowMoments {
  real mean, rstd;
};

// The second pass also mends the mean's rounding.
INLINE RowMoments moments_of_row(const T* x, int64_t D, double eps) {
  real sum[1], sums[2];
  sum_row(D, sum, [=](int64_t i, vec(&t)[1], auto load) { t[0] = load(x + i); });
  const double each = 1 / double(D);
  const real center = sum[0] * real(each);
  sum_row(D, sums, [=](int64_t i, vec(&t)[2], auto load) {
    t[0] = load(x + i) - set(center);
    t[1] = t[0] * t[0];
  });
  const double drift = double(sums[0]) * each, variance = double(sums[1]) * each - drift * drift;
  return {real(double(center) + drift), real(1 / __builtin_sqrt(variance + eps))};
}

struct Parts {  // of backward's scratch: rows of D, one per block; the two last ones hold what is added up next
  real *dgamma, *dbeta, *next_gamma, *next_beta;
  int64_t bytes;
};

Parts lay_out(const LayerNorm& s, void* base) {
  Scratch scratch(base);
  const int64_t partial = s.affine ? divide_up(s.rows, rows_of_backward_block(s)) * s.D : 0;
  Parts p;
  p.dgamma = scratch.take<real>(partial), p.dbeta = scratch.take<real>(partial);
  p.next_gamma = scratch.take<real>(partial), p.next_beta = scratch.take<real>(partial);
  p.bytes = scratch.bytes();
  return p;
}

// to += from; from = 0
INLINE void move_sums(int64_t D, real* from, real* to) {
  for_vectors(0, D, [=](int64_t i, auto load, auto store) { store(to + i, load(to + i) + load(from + i)), store(from + i, zero()); });
}

void join_blocks(const Context& context, int64_t blocks, int64_t D, const real* part, R* sum) {
  for_blocks(context, D, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      double total = 0;
      for (int64_t block = 0; block < blocks; block++) total += part[block * D + i];
      sum[i] = R(total);
    }
  });
}

}  // namespace

void layernorm_forward(const Context& context, const LayerNorm& s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd) {
  const int64_t per_block = rows_of_block(s);
  parallel(context, divide_up(s.rows, per_block), [&](int64_t block, int) {
    for (int64_t row = block * per_block; row < smaller((block + 1) * per_block, s.rows); row++) {
      const T* const from = x + row * s.D;
      const RowMoments m = moments_of_row(from, s.D, s.eps);
      mean[row] = m.mean, rstd[row] = m.rstd;
      for_vectors(0, s.D, [=](int64_t i, auto load, auto store) {
        const vec normal = (load(from + i) - set(m.mean)) * set(m.rstd);
        store(y + row * s.D + i, fma(gamma ? load(gamma + i) : set(1), normal, beta ? load(beta + i) : zero()));
      });
    }
  });
}

Plan layernorm_backward_plan(const Context&, const LayerNorm& s) { return {"row by row", lay_out(s, nullptr).bytes}; }

// With g = dy gamma and n = (x - mean) rstd: dx = rstd (g - mean of g - n (mean of g n)).
void layernorm_backward(const Context& context, const LayerNorm& s, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd,
                        T* dx, R* dgamma, R* dbeta, void* scratch) {
  const Parts p = lay_out(s, scratch);
  const int64_t per_block = rows_of_backward_block(s), blocks = divide_up(s.rows, per_block);
  parallel(context, blocks, [&](int64_t block, int) {
    const int64_t begin = block * per_block, end = smaller(begin + per_block, s.rows), offset = block * s.D;
    real *const to_gamma = p.next_gamma + offset, *const to_beta = p.next_beta + offset;
    real* const all[] = {p.dgamma + offset, p.dbeta + offset, to_gamma, to_beta};
    if (s.affine)
      for (real* sum : all) for_vectors(0, s.D, [=](int64_t i, auto, auto store) { store(sum + i, zero()); });
    for (int64_t row = begin; row < end; row++) {
      const T *const from = x + row * s.D, *const dfrom = dy + row * s.D;
      const vec center = set(mean[row]), scale = set(rstd[row]);
      real sums[2];
      sum_row(s.D, sums, [=](int64_t i, vec(&t)[2], auto load) {
        t[0] = gamma ? load(dfrom + i) * load(gamma + i) : load(dfrom + i);
        t[1] = t[0] * ((load(from + i) - center) * scale);
      });
      const vec mean_g = set(sums[0] / real(s.D)), along = set(sums[1] / real(s.D));
      for_vectors(0, s.D, [=](int64_t i, auto load, auto store) {
        const vec d = load(dfrom + i), g = gamma ? d * load(gamma + i) : d, normal = (load(from + i) - center) * scale;
        store(dx + row * s.D + i, scale * fma(-normal, along, g - mean_g));
        if (!s.affine) return;
        store(to_gamma + i, fma(d, normal, load(to_gamma + i)));
        store(to_beta + i, load(to_beta + i) + d);
      });
      if (s.affine && ((row + 1 - begin) % rows_of_sum == 0 || row + 1 == end))
        move_sums(s.D, to_gamma, p.dgamma + offset), move_sums(s.D, to_beta, p.dbeta + offset);
    }
  });
  if (!s.affine) return;
  join_blocks(context, blocks, s.D, p.dgamma, dgamma);
  join_blocks(context, blocks, s.D, p.dbeta, dbeta);
}

}  // namespace fastnn::FASTNN_TABLE
