// dw of 16 output channels on AMX: a tile of dy (output channels x 16 pixels) meets one of x (16 pixels x 16 input channels) for each of up
// to six taps. dy lies [pixel][output channel] as it was copied, and is turned in blocks of 16 x 16.
#pragma once
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

// sums[tap] += dy x[tap] over `pixels` of a row
template <int taps>
INLINE void add_row(Tiles& tiles, const operand* const (&x)[taps], const operand* dy, int64_t pixels) {
  constexpr int64_t stride = N_LANES * sizeof(operand);
  for (int64_t j = 0; j < pixels * N_LANES; j += tile_pixels * N_LANES) {
    tiles.read<6>(dy + j, stride);
    tiles.read<7>(x[0] + j, stride), tiles.multiply<0, 6, 7>();
    if constexpr (taps > 1) tiles.read<7>(x[1] + j, stride), tiles.multiply<1, 6, 7>();
    if constexpr (taps > 2) tiles.read<7>(x[2] + j, stride), tiles.multiply<2, 6, 7>();
    if constexpr (taps > 3) tiles.read<7>(x[3] + j, stride), tiles.multiply<3, 6, 7>();
    if constexpr (taps > 4) tiles.read<7>(x[4] + j, stride), tiles.multiply<4, 6, 7>();
    if constexpr (taps > 5) tiles.read<7>(x[5] + j, stride), tiles.multiply<5, 6, 7>();
  }
}

template <int taps>
INLINE void read_sums(Tiles& tiles, real (&sums)[taps][16][N_LANES]) {
  constexpr int64_t stride = N_LANES * sizeof(real);
  tiles.write<0>(sums[0], stride);
  if constexpr (taps > 1) tiles.write<1>(sums[1], stride);
  if constexpr (taps > 2) tiles.write<2>(sums[2], stride);
  if constexpr (taps > 3) tiles.write<3>(sums[3], stride);
  if constexpr (taps > 4) tiles.write<4>(sums[4], stride);
  if constexpr (taps > 5) tiles.write<5>(sums[5], stride);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
