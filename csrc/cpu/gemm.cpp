#include "tile_ends.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// sum + a b, in sum's own register: left to choose, compilers copy and spill the sums of a tile that fills all registers.
INLINE vec add_product(vec a, vec b, vec sum) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  return sum;
#else
  return multiply(a, b, sum);
#endif
}

template <int Q, int Z>
INLINE void add_products(const operand* a, int64_t pitch, const operand* b, vec (&sum)[Q][Z]) {
  vec row[Z];
  UNROLL for (int z = 0; z < Z; z++) row[z] = load(b + z * N_LANES);
  UNROLL for (int q = 0; q < Q; q++) {
    const vec x = broadcast<Z>(a + q * pitch);
    UNROLL for (int z = 0; z < Z; z++) sum[q][z] = add_product(x, row[z], sum[q][z]);
  }
}

// The products of `depth` operands of each row, one step after the other
template <int known_pitch, int Q, int Z>
INLINE void add_depth(const operand* a, int64_t pitch, int64_t step, int64_t depth, const operand*& b, vec (&sum)[Q][Z]) {
  if constexpr (!short_steps) {
    for (const operand* const end = a + depth * step; a < end; a += step, b += Z * N_LANES) add_products(a, pitch, b, sum);
    return;
  }
  const auto next = [&] { add_products(a, pitch, b, sum), a += step, b += Z * N_LANES; };
  for (; known_pitch == N_LANES && depth >= N_LANES; depth -= N_LANES) UNROLL for (int i = 0; i < N_LANES; i++) next();
  if constexpr (!known_pitch) SHORT_STEPS for (; depth; depth--) next();
  for (; depth; depth--) next();
}

template <class Y, int Q, int Z, int known_pitch>
void plain_tile(const Reduction& over, const operand* a, const operand* b, const Target<Y>& to) {
  const int64_t pitch = known_pitch ? known_pitch : over.pitch, step = known_pitch ? 1 : over.step;
  const int64_t plane = short_steps && !known_pitch ? over.depth : N_LANES;                          // unpacked, planes follow each other
  const int64_t ahead = known_pitch && known_pitch < N_LANES ? 4 * (to.row[Q - 1] - to.row[0]) : 0;  // short sums: later tiles' lines
  if constexpr (short_steps) UNROLL for (int q = 0; q < Q; q++) __builtin_prefetch(to.y + to.row[q] + ahead, 1);
  vec sum[Q][Z];
  begin(sum, to);
  for (int64_t done = 0; done < over.depth; done += plane, a += over.plane_stride) {
    const int64_t depth = over.depth - done < plane ? over.depth - done : plane;
    for (int t = 0; t < over.taps; t++) add_depth<known_pitch>(a + over.tap[t], pitch, step, depth, b, sum);
  }
  finish(sum, to);
}

template <class Y, int Q, int Z, int images>
void tap_reuse_tile(const Reduction& over, const operand* a, const operand* b, const Target<Y>& to) {
  vec sum[Q][Z];
  begin(sum, to);
  for (int64_t done = 0; done < over.depth; done += N_LANES, a += over.plane_stride) {
    const int depth = over.depth - done < N_LANES ? int(over.depth - done) : N_LANES;
    for (int t = 0; t < over.taps; t += 3) {
      const operand* p = a + over.tap[t];
      for (const operand* end = p + depth; p < end; p++, b += 3 * Z * N_LANES) {
        vec row[3][Z];
        UNROLL for (int s = 0; s < 3; s++) UNROLL for (int z = 0; z < Z; z++) row[s][z] = load(b + (s * Z + z) * N_LANES);
        UNROLL for (int j = 0; j < Q + 2 * images; j++) {
          const vec x = broadcast(p + j * N_LANES);
          UNROLL for (int s = 0; s < 3; s++) {
            const int q = j - s * images;
            if (q >= 0 && q < Q) UNROLL for (int z = 0; z < Z; z++) sum[q][z] = add_product(x, row[s][z], sum[q][z]);
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
INLINE Tile<Y> taps3_tile_of(int rows, [[maybe_unused]] int vectors) {
  if constexpr (most_taps3_vectors == 2) {
    if (vectors == 2) return pick_taps3_tile<Y, 2, images>(rows, LanesUpTo<tile_rows(2, 3)>::type{});
  }
  return pick_taps3_tile<Y, 1, images>(rows, LanesUpTo<tile_rows(1, 3)>::type{});
}

}  // namespace

template <class Y>
Tile<Y> tile(int rows, int vectors, [[maybe_unused]] int pitch) {
  if constexpr (as_it_lies)
    if (pitch == 0) return tile_of<Y, 0>(rows, vectors);
  if constexpr (together == 1 && sizeof(Y) == sizeof(storage))  // convolutions
    if (pitch < N_LANES)
      return pitch == 4 ? tile_of<Y, 4>(rows, vectors) : pitch == 3 ? tile_of<Y, 3>(rows, vectors) : tile_of<Y, 1>(rows, vectors);
  return tile_of<Y, N_LANES>(rows, vectors);
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
