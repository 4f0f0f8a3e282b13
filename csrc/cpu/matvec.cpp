// y = activation(w x + bias) for one vector: every weight is read once, where it lies. Rows of w are taken four at a time.
#include "matvec.h"
#include "sum_lanes.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t block_work = 64 * 1024;  // weights of a block

template <int rows>
INLINE void dots(const T* w, int64_t stride, const T* x, int64_t K, real (&y)[rows]) {
  vec sum[rows][2] = {};
  int64_t k = 0;
  for (; k + 2 * N_LANES <= K; k += 2 * N_LANES) UNROLL for (int i = 0; i < 2; i++) {
      const vec v = load(x + k + i * N_LANES);
      UNROLL for (int r = 0; r < rows; r++) sum[r][i] = fma(load(w + r * stride + k + i * N_LANES), v, sum[r][i]);
    }
  for (; k < K; k += N_LANES) {
    const int n = int(smaller(N_LANES, K - k));
    const vec v = load_n(x + k, n);
    UNROLL for (int r = 0; r < rows; r++) sum[r][0] = fma(load_n(w + r * stride + k, n), v, sum[r][0]);
  }
  UNROLL for (int r = 0; r < rows; r++) y[r] = sum_lanes(sum[r][0] + sum[r][1]);
}

}  // namespace

bool is_matvec(const MatMul& v) { return v.batch == 1 && v.M == 1 && v.transpose_b; }

void matvec(const Context& context, const MatMul& v, const T* x, const T* w, const R* bias, T* y) {
  constexpr int64_t together = 4;
  const int64_t rows = larger(1, block_work / (together * larger(1, v.K))) * together;
  parallel(context, divide_up(v.N, rows), [&](int64_t block, int) {
    const int64_t end = smaller(v.N, (block + 1) * rows);
    for (int64_t n = block * rows; n < end; n += together) {
      real sums[together];
      const int64_t count = smaller(together, end - n);
      if (count == together) {
        dots<together>(w + n * v.K, v.K, x, v.K, sums);
      } else {
        for (int64_t r = 0; r < count; r++) {
          real one[1];
          dots<1>(w + (n + r) * v.K, v.K, x, v.K, one);
          sums[r] = one[0];
        }
      }
      for (int64_t r = 0; r < count; r++) sums[r] += bias ? bias[n + r] : 0;
      activate_in_place(v.activation, sums, count);
      for (int64_t r = 0; r < count; r++) y[n + r] = storage(sums[r]);
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
