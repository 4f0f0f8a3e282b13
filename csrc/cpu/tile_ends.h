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

// Activations of more than an instruction, of a tile that has just been written; where that would round, of its sums before.
template <class Y>
__attribute__((noinline)) void activate_rows(const Target<Y>& to, int rows) {
  for (int q = 0; q < rows; q++) activate_in_place(to.activation, to.y + to.row[q], to.columns);
}
template <int Q, int Z>
INLINE void activate_sums(vec (&sum)[Q][Z], Activation activation) {
  real sums[Q * Z * N_LANES];
  UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) store(sums + (q * Z + z) * N_LANES, sum[q][z]);
  activate_in_place(activation, sums, Q * Z * N_LANES);
  UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = load(sums + (q * Z + z) * N_LANES);
}

template <int Q, int Z, class Y>
INLINE void finish(vec (&sum)[Q][Z], const Target<Y>& to) {
  if (to.accumulate) {
    UNROLL for (int z = 0; z < Z; z++) {
      const int n = valid_lanes(to.columns, z);
      UNROLL for (int q = 0; q < Q; q++) {
        const Y* y = to.y + to.row[q] + z * N_LANES;
        sum[q][z] = (n == N_LANES ? load(y) : load_n(y, n)) + sum[q][z];
      }
    }
  }
  if (to.activation == Activation::relu) {
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = relu(sum[q][z]);
  }
  constexpr bool rounds = sizeof(Y) < sizeof(real);  // what convolutions write
  if constexpr (rounds) {
    if (to.activation > Activation::relu) activate_sums(sum, to.activation);
  } else {
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) raise_flags(sum[q][z]);
  }
  if (to.columns == Z * N_LANES) {
    UNROLL for (int q = 0; q < Q; q++) UNROLL for (int z = 0; z < Z; z++) store(to.y + to.row[q] + z * N_LANES, sum[q][z]);
  } else {
    UNROLL for (int z = 0; z < Z; z++) {
      const int n = valid_lanes(to.columns, z);
      if (n) UNROLL for (int q = 0; q < Q; q++) store_n(to.y + to.row[q] + z * N_LANES, n, sum[q][z]);
    }
  }
  if (!rounds && to.activation > Activation::relu) activate_rows(to, Q);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
