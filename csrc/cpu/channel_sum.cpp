// Sums over rows: the gradient of a bias.
#include "scratch.h"
#include "simd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Blocks of rows, each with its own partial sum. Narrow rows (C < N_LANES) are read N_LANES at a time, as C vectors.
struct RowBlocks {
  int64_t fold, rows, count;  // rows read as one, rows in a block (a multiple of fold), how many blocks

  explicit RowBlocks(const Channels& v) {
    fold = v.C % N_LANES && v.C < 4 * N_LANES ? N_LANES : 1;
    rows = larger(1, divide_up(larger(divide_up(32768, larger(1, v.C)), divide_up(v.rows, 64)), fold)) * fold;
    count = larger(1, divide_up(v.rows, rows));
  }
  INLINE int64_t width(const Channels& v) const { return fold * v.C; }
};

// sum[c] = the sum of `rows` rows of x, `width` apart: Z vectors of columns at a time, four rows at a time.
template <int Z>
INLINE void sum_columns(const T* x, int64_t width, int64_t rows, real* sum) {
  vec part[4][Z] = {};
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4)
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int z = 0; z < Z; z++) part[i][z] += load(x + (r + i) * width + z * N_LANES);
  for (; r < rows; r++) UNROLL for (int z = 0; z < Z; z++) part[0][z] += load(x + r * width + z * N_LANES);
  UNROLL for (int z = 0; z < Z; z++) store(sum + z * N_LANES, (part[0][z] + part[1][z]) + (part[2][z] + part[3][z]));
}

void sum_rows(const T* x, int64_t width, int64_t rows, real* sum) {
  int64_t c = 0;
  for (; c + 2 * N_LANES <= width; c += 2 * N_LANES) sum_columns<2>(x + c, width, rows, sum + c);
  for (; c + N_LANES <= width; c += N_LANES) sum_columns<1>(x + c, width, rows, sum + c);
  if (const int n = int(width - c)) {
    vec part = zero();
    for (int64_t r = 0; r < rows; r++) part += load_n(x + r * width + c, n);
    store_n(sum + c, n, part);
  }
}

}  // namespace

Plan channel_sum_plan(const Context&, const Channels& v) {
  const RowBlocks blocks(v);
  Scratch scratch(nullptr);
  scratch.take<real>(blocks.count * blocks.width(v));
  return {"row_blocks", scratch.bytes()};
}

void channel_sum(const Context& context, const Channels& v, const T* x, R* sum, void* scratch) {
  const RowBlocks blocks(v);
  const int64_t width = blocks.width(v), fold = blocks.fold;
  real* partial = static_cast<real*>(scratch);
  parallel(context, blocks.count, [&](int64_t block, int) {
    const int64_t first = block * blocks.rows, rows = smaller(blocks.rows, v.rows - first);
    real* own = partial + block * width;
    sum_rows(x + first * v.C, width, rows / fold, own);
    for (int64_t i = rows / fold * fold * v.C; i < rows * v.C; i++) own[i % v.C] += x[first * v.C + i];
  });
  for (int64_t c = 0; c < v.C; c++) {
    real total = 0;
    for (int64_t block = 0; block < blocks.count; block++)
      for (int64_t i = 0; i < fold; i++) total += partial[block * width + i * v.C + c];
    sum[c] = total;
  }
}

}  // namespace fastnn::FASTNN_TABLE
