// dw on AMX, included in the namespace of cpu/conv2d/direct_backward_weight.cpp: a tile of dy (16 output channels x 16 pixels) meets one of
// x (16 pixels x 16 input channels) for each tap. dy lies [pixel][output channel] as it was copied, and is turned in blocks of 16 x 16.
#pragma once

constexpr int tile_pixels = 16;

INLINE void turn_blocks(operand* dy, int64_t blocks) {
  for (int64_t i = 0; i < blocks; i++, dy += tile_pixels * N_LANES) {
    vec block[N_LANES];
    UNROLL for (int j = 0; j < N_LANES; j++) block[j] = load(dy + j * N_LANES);
    transpose(block);
    UNROLL for (int j = 0; j < N_LANES; j++) store(dy + j * N_LANES, block[j]);
  }
}

INLINE void turn_planes(operand* dy, int64_t planes, int64_t stride, int64_t blocks) {
  for (int64_t plane = 0; plane < planes; plane++) turn_blocks(dy + plane * stride, blocks);
}

template <int i>
struct Number {
  constexpr operator int() const { return i; }
};

// Sums of one or two times 16 output channels: of up to six taps, or of two.
template <int taps, int blocks>
class WeightTiles {
 public:
  INLINE WeightTiles() { tiles_.clear<0>(), tiles_.clear<1>(), tiles_.clear<2>(), tiles_.clear<3>(), tiles_.clear<4>(), tiles_.clear<5>(); }

  // += dy x[tap] over `pixels` of a row, those of x `pitch` apart; the second block's dy is `plane` further
  INLINE void add_row(const operand* const (&x)[taps], int64_t pitch, const operand* dy, int64_t plane, int64_t pixels) {
    const int64_t x_bytes = pitch * int64_t(sizeof(operand));
    for (int64_t done = 0; done < pixels; done += tile_pixels, dy += tile_pixels * N_LANES) {
      const int64_t j = done * pitch;
      if constexpr (blocks == 2) {
        tiles_.read<4>(dy, row_bytes), tiles_.read<6>(x[0] + j, x_bytes), tiles_.read<5>(dy + plane, row_bytes);
        tiles_.multiply<0, 4, 6>();
        if constexpr (taps > 1) tiles_.read<7>(x[1] + j, x_bytes);
        tiles_.multiply<2, 5, 6>();
        if constexpr (taps > 1) tiles_.multiply<1, 4, 7>(), tiles_.multiply<3, 5, 7>();
      } else {
        tiles_.read<6>(dy, row_bytes);
        for_taps([&](auto tap) { tiles_.read<7>(x[tap] + j, x_bytes), tiles_.multiply<tap, 6, 7>(); });
      }
    }
  }
  // Sums of output channels that are `stride` apart, as they lie
  INLINE void read(const Tap* tap, int64_t stride) {
    for_taps([&](auto t) {
      tiles_.read<t>(tap[t].dw, stride * int64_t(sizeof(real)));
      if constexpr (blocks == 2) tiles_.read<t + 2>(tap[t].dw + 16 * stride, stride * int64_t(sizeof(real)));
    });
  }
  INLINE void write(const Tap* tap, int64_t stride) {
    for_taps([&](auto t) {
      tiles_.write<t>(tap[t].dw, stride * int64_t(sizeof(real)));
      if constexpr (blocks == 2) tiles_.write<t + 2>(tap[t].dw + 16 * stride, stride * int64_t(sizeof(real)));
    });
  }

 private:
  static_assert(blocks == 1 ? taps <= 6 : taps <= 2, "eight tiles");
  static constexpr int64_t row_bytes = N_LANES * sizeof(operand);
  Tiles tiles_;

  template <int tap = 0, class F>
  INLINE static void for_taps(const F& f) {
    if constexpr (tap < taps) f(Number<tap>()), for_taps<tap + 1>(f);
  }
};

// dw[tap][k] = or += sum over pixels of dy[k] x[tap], for K output channels. The first `k_count` are written, k_stride apart.
template <int taps, int K>
void weight_tile(const Walk& walk, const Tap* tap, const operand* dy, int k_count, int64_t k_stride, bool accumulate) {
  WeightTiles<taps, K / 16> tiles;
  bool whole = k_count == K;  // then sums are read and written where they lie
  for (int t = 0; t < taps; t++) whole = whole && tap[t].lanes == N_LANES;
  if (whole && accumulate) tiles.read(tap, k_stride);
  for (int64_t g = 0; g < walk.groups; g++)
    for (int64_t r = 0; r < walk.rows; r++) {
      walk.next->step();
      const operand* x[taps];
      for (int t = 0; t < taps; t++) x[t] = tap[t].x + g * walk.x_group + r * walk.x_row;
      tiles.add_row(x, walk.x_pixel, dy + g * walk.dy_group + r * walk.dy_row, walk.dy_plane, walk.length);
    }
  if (whole) return tiles.write(tap, k_stride);
  alignas(64) real sums[taps][K][N_LANES];
  Tap own[taps];
  for (int t = 0; t < taps; t++) own[t].dw = sums[t][0];
  tiles.write(own, N_LANES);
  vec sum[taps][K];
  for (int t = 0; t < taps; t++)
    for (int k = 0; k < K; k++) sum[t][k] = load(sums[t][k]);
  write_sums(sum, tap, k_count, k_stride, accumulate);
}

template <int... t>
WeightTile tile_of_16(int64_t taps, Lanes<t...>) {
  static constexpr WeightTile tiles[] = {weight_tile<t + 1, 16>...};
  return tiles[taps - 1];
}
WeightTile weight_tile_of(bool, int64_t taps, int64_t k_count) {
  if (k_count > 16) return taps == 2 ? weight_tile<2, 32> : weight_tile<1, 32>;
  return tile_of_16(taps, LanesUpTo<6>::type());
}
