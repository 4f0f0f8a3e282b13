#include "gemm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE int valid_lanes(int columns, int z) {
  const int left = columns - z * N_LANES;
  return left < 0 ? 0 : left < N_LANES ? left : N_LANES;
}

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
  constexpr bool rounds = sizeof(Y) < sizeof(real);
  if constexpr (rounds) {
    if (to.activation > Activation::relu) activate_sums(sum, to.activation);
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

template <class Y, int Q, int Z, int pitch>
void plain_tile(const Reduction& over, const real* a, const real* b, const Target<Y>& to) {
  vec sum[Q][Z];
  begin(sum, to);
  for (int64_t done = 0; done < over.channels; done += N_LANES, a += over.plane_stride) {
    const int channels = over.channels - done < N_LANES ? int(over.channels - done) : N_LANES;
    for (int t = 0; t < over.taps; t++) {
      const real* p = a + over.tap[t];
      for (const real* end = p + channels; p < end; p++, b += Z * N_LANES) {
        vec row[Z];
        UNROLL for (int z = 0; z < Z; z++) row[z] = load(b + z * N_LANES);
        UNROLL for (int q = 0; q < Q; q++) {
          const vec x = broadcast(p + q * pitch);
          UNROLL for (int z = 0; z < Z; z++) sum[q][z] = fma(x, row[z], sum[q][z]);
        }
      }
    }
  }
  finish(sum, to);
}

template <class Y, int Q, int Z, int images>
void tap_reuse_tile(const Reduction& over, const real* a, const real* b, const Target<Y>& to) {
  vec sum[Q][Z];
  begin(sum, to);
  for (int64_t done = 0; done < over.channels; done += N_LANES, a += over.plane_stride) {
    const int channels = over.channels - done < N_LANES ? int(over.channels - done) : N_LANES;
    for (int t = 0; t < over.taps; t += 3) {
      const real* p = a + over.tap[t];
      for (const real* end = p + channels; p < end; p++, b += 3 * Z * N_LANES) {
        vec row[3][Z];
        UNROLL for (int s = 0; s < 3; s++) UNROLL for (int z = 0; z < Z; z++) row[s][z] = load(b + (s * Z + z) * N_LANES);
        UNROLL for (int j = 0; j < Q + 2 * images; j++) {
          const vec x = broadcast(p + j * N_LANES);
          UNROLL for (int s = 0; s < 3; s++) {
            const int q = j - s * images;
            if (q >= 0 && q < Q) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = fma(x, row[s][z], sum[q][z]);
          }
        }
      }
    }
  }
  finish(sum, to);
}

template <class Y, int Z, int pitch, int... q>
INLINE Tile<Y> pick_tile(int rows, Lanes<q...>) {
  static constexpr Tile<Y> tiles[] = {plain_tile<Y, q + 1, Z, pitch>...};
  return tiles[rows - 1];
}
template <class Y, int Z, int pitch>
INLINE Tile<Y> tile_of(int rows) {
  return pick_tile<Y, Z, pitch>(rows, typename LanesUpTo<tile_rows(Z, 1)>::type{});
}
template <class Y, int pitch>
INLINE Tile<Y> tile_of(int rows, int vectors) {
  if constexpr (most_vectors == 4) {
    if (vectors == 4) return tile_of<Y, 4, pitch>(rows);
  }
  return vectors == 2 ? tile_of<Y, 2, pitch>(rows) : tile_of<Y, 1, pitch>(rows);
}

template <class Y, int Z, int images, int... q>
INLINE Tile<Y> pick_taps3_tile(int rows, Lanes<q...>) {
  static constexpr Tile<Y> tiles[] = {tap_reuse_tile<Y, q + 1, Z, images>...};
  return tiles[rows - 1];
}
template <class Y, int images>
INLINE Tile<Y> taps3_tile_of(int rows, int vectors) {
  if constexpr (most_taps3_vectors == 2) {
    if (vectors == 2) return pick_taps3_tile<Y, 2, images>(rows, LanesUpTo<tile_rows(2, 3)>::type{});
  }
  (void)vectors;
  return pick_taps3_tile<Y, 1, images>(rows, LanesUpTo<tile_rows(1, 3)>::type{});
}

INLINE void pack_panel_columns(const storage* source, int64_t stride, int64_t depth, int columns, int Z, real* packed, int64_t step) {
  for (int64_t i = 0; i < depth; i++, source += stride, packed += step)
    for (int z = 0; z < Z; z++) {
      const int n = valid_lanes(columns, z);
      store(packed + z * N_LANES, n == N_LANES ? load(source + z * N_LANES) : n ? load_n(source + z * N_LANES, n) : zero());
    }
}

// The transpose of `rows` x `columns` (at most N_LANES each) of the source; what is missing reads as 0.
INLINE void load_transposed(const storage* source, int64_t stride, int rows, int columns, vec (&block)[N_LANES]) {
  if (rows == N_LANES && columns == N_LANES) {
    UNROLL for (int i = 0; i < N_LANES; i++) block[i] = load(source + i * stride);
  } else {
    for (int i = 0; i < N_LANES; i++) block[i] = i < rows ? load_n(source + i * stride, columns) : zero();
  }
  transpose(block);
}

INLINE void pack_panel_transposed(const storage* source, int64_t stride, int64_t depth, int columns, int Z, real* packed, int64_t step) {
  for (int64_t i = 0; i < depth; i += N_LANES) {
    const int n = depth - i < N_LANES ? int(depth - i) : N_LANES;
    for (int z = 0; z < Z; z++) {
      vec block[N_LANES];
      load_transposed(source + z * N_LANES * stride + i, stride, valid_lanes(columns, z), n, block);
      for (int j = 0; j < n; j++) store(packed + (i + j) * step + z * N_LANES, block[j]);
    }
  }
}

}  // namespace

void pack_panel(const storage* source, int64_t stride, bool transposed, int64_t depth, int columns, int Z, real* packed, int64_t step) {
  if (transposed) return pack_panel_transposed(source, stride, depth, columns, Z, packed, step);
  return pack_panel_columns(source, stride, depth, columns, Z, packed, step);
}

void pack_rows(const storage* source, int64_t stride, bool transposed, int64_t depth, int64_t rows, real* packed, int64_t plane_rows) {
  for (int64_t i = 0; i < depth; i += N_LANES, packed += plane_rows * N_LANES) {
    const int n = depth - i < N_LANES ? int(depth - i) : N_LANES;
    if (transposed) {
      for (int64_t q = 0; q < rows; q += N_LANES) {
        const int m = rows - q < N_LANES ? int(rows - q) : N_LANES;
        vec block[N_LANES];
        load_transposed(source + i * stride + q, stride, n, m, block);
        for (int j = 0; j < m; j++) store(packed + (q + j) * N_LANES, block[j]);
      }
    } else if (n == N_LANES) {
      for (int64_t q = 0; q < rows; q++) store(packed + q * N_LANES, load(source + q * stride + i));
    } else {
      for (int64_t q = 0; q < rows; q++) store(packed + q * N_LANES, load_n(source + q * stride + i, n));
    }
  }
}

int tile_vectors(int64_t columns, int most) {
  const int64_t vectors = (columns + N_LANES - 1) / N_LANES;
  if (most >= 4 && (vectors % 4 == 0 || vectors >= 7)) return 4;
  return most >= 2 && (vectors % 2 == 0 || vectors >= 3) ? 2 : 1;
}

template <class Y>
Tile<Y> tile(int rows, int vectors, int pitch) {
  return pitch == N_LANES ? tile_of<Y, N_LANES>(rows, vectors) : pitch == 4 ? tile_of<Y, 4>(rows, vectors) : tile_of<Y, 1>(rows, vectors);
}

template <class Y>
Tile<Y> taps3_tile(int rows, int vectors, int images) {
  return images == 8   ? taps3_tile_of<Y, 8>(rows, vectors)
         : images == 4 ? taps3_tile_of<Y, 4>(rows, vectors)
         : images == 2 ? taps3_tile_of<Y, 2>(rows, vectors)
                       : taps3_tile_of<Y, 1>(rows, vectors);
}

template Tile<real> tile<real>(int, int, int);
template Tile<storage> taps3_tile<storage>(int, int, int);
#if defined(FASTNN_NARROW_STORAGE)
template Tile<storage> tile<storage>(int, int, int);
#endif

}  // namespace fastnn::FASTNN_TABLE
