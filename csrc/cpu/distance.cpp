// Distances between rows: sums of squared or absolute differences, in register tiles like those of a product. Nothing of size M x N x D.
//
// The floor is a subtraction and a multiply-add (for L1 an and, and an addition) for each pair of elements: two instructions (three) where
// a product takes one; processors with adders beside their multipliers run L2 at nearly a product's rate. |a|^2 + |b|^2 - 2 a b would take
// one as well, and cancels: near neighbours, which is what is asked for, lose their digits, while this is exact on integers.
#include "gemm.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t depth_step = 256;  // long sums are sums of short ones
constexpr int64_t most_block_rows = 192, most_block_columns = 256;
constexpr int most_distance_vectors = registers == 32 ? 4 : 2;
constexpr int distance_rows = registers == 32 ? 6 : 4;  // of a tile of most vectors; with one difference, a row of b and a broadcast

INLINE vec without_sign(vec a) { return vec(ivec(a) & ~ivec(set(real(-0.0)))); }

template <int p>
INLINE vec add_difference(vec a, vec b, vec sum) {
  const vec d = a - b;
  if constexpr (p == 1) return sum + without_sign(d);
  return fma(d, d, sum);
}

// y (rows N apart) = or += the distances over `depth` elements. a: planes of N_LANES elements, plane_rows rows each; b: Z vectors a step
template <int p, int Q, int Z>
void distance_tile(int64_t depth, const real* a, int64_t plane_rows, const real* b, real* y, int64_t N, int columns, bool accumulate) {
  vec sum[Q][Z] = {};
  for (int64_t done = 0; done < depth; done += N_LANES, a += plane_rows * N_LANES) {
    const real* const end = a + smaller(N_LANES, depth - done);
    for (const real* at = a; at < end; at++, b += Z * N_LANES) {
      vec row[Z];
      UNROLL for (int z = 0; z < Z; z++) row[z] = load(b + z * N_LANES);
      UNROLL for (int q = 0; q < Q; q++) {
        const vec x = broadcast<Z>(at + q * N_LANES);
        UNROLL for (int z = 0; z < Z; z++) sum[q][z] = add_difference<p>(x, row[z], sum[q][z]);
      }
    }
  }
  UNROLL for (int q = 0; q < Q; q++) {
    UNROLL for (int z = 0; z < Z; z++) {
      const int n = int(larger(0, smaller(N_LANES, columns - z * N_LANES)));
      real* to = y + q * N + z * N_LANES;
      if (n) store_n(to, n, accumulate ? load_n(to, n) + sum[q][z] : sum[q][z]);
    }
  }
}

using DistanceTile = void (*)(int64_t, const real*, int64_t, const real*, real*, int64_t, int, bool);

template <int p, int Z, int... q>
INLINE DistanceTile pick_rows(int rows, Lanes<q...>) {
  static constexpr DistanceTile tiles[] = {distance_tile<p, q + 1, Z>...};
  return tiles[rows - 1];
}
template <int p>
INLINE DistanceTile pick_tile(int rows, int vectors) {
  constexpr LanesUpTo<distance_rows>::type all{};
  if constexpr (most_distance_vectors == 4) {
    if (vectors == 4) return pick_rows<p, 4>(rows, all);
  }
  return vectors == 2 ? pick_rows<p, 2>(rows, all) : pick_rows<p, 1>(rows, all);
}

// Blocks of rows of a x blocks of rows of b; each packs its rows of a and one panel of b after the other, a stretch of the depth at a time.
struct Cut {
  int Z;
  int64_t panel, rows, columns, row_blocks, column_blocks, depth, a_size, worker_bytes;

  explicit Cut(const Distance& s) {
    Z = tile_vectors(s.N, most_distance_vectors);
    panel = Z * N_LANES;
    rows = smaller(most_block_rows, larger(1, s.M));
    columns = smaller(larger(1, most_block_columns / panel), larger(1, divide_up(s.N, panel))) * panel;
    row_blocks = divide_up(s.M, rows), column_blocks = divide_up(s.N, columns);
    depth = smaller(depth_step, divide_up(larger(1, s.D), N_LANES) * N_LANES);
    a_size = divide_up(rows * depth, 16) * 16;
    worker_bytes = (a_size + panel * depth) * int64_t(sizeof(real)) + 64;
  }
};

}  // namespace

Plan distance_plan(const Context& context, const Distance& s) { return {"tiles", Cut(s).worker_bytes * context.workers}; }

void distance(const Context& context, const Distance& s, const T* a, const T* b, R* y, void* scratch) {
  const Cut cut(s);
  parallel(context, cut.row_blocks * cut.column_blocks, [&](int64_t block, int worker) {
    const int64_t m0 = block % cut.row_blocks * cut.rows, rows = smaller(cut.rows, s.M - m0);
    const int64_t n0 = block / cut.row_blocks * cut.columns, n1 = smaller(n0 + cut.columns, s.N);
    real* const own_a = reinterpret_cast<real*>(static_cast<char*>(scratch) + worker * cut.worker_bytes);
    real* const own_b = own_a + cut.a_size;
    for (int64_t k = 0; k == 0 || k < s.D; k += depth_step) {  // once even for D = 0
      const int64_t depth = smaller(depth_step, s.D - k);
      pack_rows(a + m0 * s.D + k, s.D, false, depth, rows, Piece::all, own_a, rows);
      for (int64_t n = n0; n < n1; n += cut.panel) {
        const int columns = int(smaller(cut.panel, n1 - n));
        pack_panel(b + n * s.D + k, s.D, true, depth, columns, cut.Z, Piece::all, own_b, cut.panel);
        for (int64_t q = 0; q < rows; q += distance_rows) {
          const int count = int(smaller(distance_rows, rows - q));
          const DistanceTile tile = s.p == 1 ? pick_tile<1>(count, cut.Z) : pick_tile<2>(count, cut.Z);
          tile(depth, own_a + q * N_LANES, rows, own_b, y + (m0 + q) * s.N + n, s.N, columns, k > 0);
        }
      }
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
