// How a tile begins and ends: bias, what y holds, activation, the rest of a panel's columns.
#pragma once
#include "gemm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int Q, int Z, class Y>
INLINE void begin(vec (&sum)[Q][Z], const Target<Y>& to) {
  UNROLL for (int z = 0; z < Z; z++) {
    const int n = valid_lanes(to.columns, z);
    const vec first = to.bias && !to.accumulate && n ? load_n(to.bias + z * N_LANES, n) : zero();
    UNROLL for (int q = 0; q < Q; q++) sum[q][z] = first;
  }
}

// What few tiles have, columns beside a panel and activations of more than an instruction: from sums in memory, so that it is compiled once
// for all tiles.
template <class Y>
__attribute__((noinline)) void finish_rows(real* sums, int rows, int vectors, const Target<Y>& to) {
  for (int q = 0; q < rows; q++, sums += vectors * N_LANES) {
    Y* y = to.y + to.row[q];
    for (int z = 0; to.accumulate && z < vectors; z++) {
      const int n = valid_lanes(to.columns, z);
      store(sums + z * N_LANES, load_n(y + z * N_LANES, n) + load(sums + z * N_LANES));
    }
    activate_in_place(to.activation, sums, to.columns);
    for (int z = 0; z < vectors && valid_lanes(to.columns, z); z++)
      store_n(y + z * N_LANES, valid_lanes(to.columns, z), load(sums + z * N_LANES));
  }
}

template <int Q, int Z, class Y>
INLINE void finish(vec (&sum)[Q][Z], const Target<Y>& to) {
  if constexpr (sizeof(Y) == sizeof(real)) {  // else it is what convolutions write
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) raise_flags(sum[q][z]);
  }
  if (to.columns < Z * N_LANES || to.activation > Activation::relu) {
    real sums[Q * Z * N_LANES];
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) store(sums + (q * Z + z) * N_LANES, sum[q][z]);
    return finish_rows(sums, Q, Z, to);
  }
  if (to.accumulate) {
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = load(to.y + to.row[q] + z * N_LANES) + sum[q][z];
  }
  if (to.activation == Activation::relu) {
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = relu(sum[q][z]);
  }
  UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) store(to.y + to.row[q] + z * N_LANES, sum[q][z]);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
