// dw on AMX: a tile of dy (16 output channels x 16 pixels) meets one of x (16 pixels x 16 input channels) for each tap. dy lies
// [pixel][output channel] as it was copied, and is turned in blocks of 16 x 16.
#pragma once
#include <type_traits>

#include "../cpu/gemm.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int tile_pixels = 16;

INLINE void turn_blocks(operand* dy, int64_t blocks) {
  for (int64_t i = 0; i < blocks; i++, dy += tile_pixels * N_LANES) {
    vec block[N_LANES];
    UNROLL for (int j = 0; j < N_LANES; j++) block[j] = load(dy + j * N_LANES);
    transpose(block);
    UNROLL for (int j = 0; j < N_LANES; j++) store(dy + j * N_LANES, block[j]);
  }
}

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
        tiles_.read<4>(dy, row_bytes), tiles_.read<5>(dy + plane, row_bytes), tiles_.read<6>(x[0] + j, x_bytes);
        if constexpr (taps > 1) tiles_.read<7>(x[1] + j, x_bytes);
        tiles_.multiply<0, 4, 6>(), tiles_.multiply<2, 5, 6>();
        if constexpr (taps > 1) tiles_.multiply<1, 4, 7>(), tiles_.multiply<3, 5, 7>();
      } else {
        tiles_.read<6>(dy, row_bytes);
        for_taps([&](auto tap) { tiles_.read<7>(x[tap] + j, x_bytes), tiles_.multiply<tap, 6, 7>(); });
      }
    }
  }
  INLINE void write(real (&sums)[taps][16 * blocks][N_LANES]) {
    for_taps([&](auto tap) {
      tiles_.write<tap>(sums[tap], row_bytes);
      if constexpr (blocks == 2) tiles_.write<tap + 2>(sums[tap] + 16, row_bytes);
    });
  }

 private:
  static_assert(blocks == 1 ? taps <= 6 : taps <= 2, "eight tiles");
  static constexpr int64_t row_bytes = N_LANES * sizeof(operand);
  Tiles tiles_;

  template <int tap = 0, class F>
  INLINE static void for_taps(const F& f) {
    if constexpr (tap < taps) f(std::integral_constant<int, tap>()), for_taps<tap + 1>(f);
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
