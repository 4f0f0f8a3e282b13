// How a tile of Winograd's products becomes pixels of y: y = activation(A' m A + bias + residual).
#pragma once
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Where a vector of channels of a tile goes
struct OutputTile {
  storage* y;               // of its first pixel
  const storage* residual;  // there; null: none
  const real* bias;         // null: none
  int64_t row, pixel;       // from a row of pixels, from a pixel to the next
  int64_t height, width;    // how many of its rows and columns lie inside the map
  int channels;             // how many of the vector's there are
  Activation activation;
};

// What few tiles have, once for all: borders, channels beside a vector, activations of more than an instruction.
template <class F>
__attribute__((noinline)) void write_part(const real* products, int64_t frequency_step, const OutputTile& to) {
  vec pixels[F::out][F::out];
  transform_tile<F>([&](int i, int j) { return load(products + (i * F::in + j) * frequency_step); },
                    [&](int i, int j, vec v) { pixels[i][j] = v; });
  const int n = to.channels;
  const vec bias = to.bias ? load_n(to.bias, n) : zero();
  with_activation(to.activation, [&](auto constant) {
    for (int i = 0; i < smaller(F::out, to.height); i++)
      for (int j = 0; j < smaller(F::out, to.width); j++) {
        const int64_t at = i * to.row + j * to.pixel;
        const vec sum = pixels[i][j] + bias;
        store_n(to.y + at, n, activate<decltype(constant)::activation>(to.residual ? sum + load_n(to.residual + at, n) : sum));
      }
  });
}

// From products of frequencies that lie a constant apart, so that an address is a register and a constant
template <class F, int64_t frequency_step>
INLINE void write_pixels(const real* products, const OutputTile& to) {
  if (to.height < F::out || to.width < F::out || to.channels < N_LANES || to.activation > Activation::relu)
    return write_part<F>(products, frequency_step, to);
  const vec bias = to.bias ? load(to.bias) : zero(), least = set(to.activation == Activation::relu ? real(0) : real(-__builtin_inf()));
  const auto product = [&](int i, int j) { return load(products + (i * F::in + j) * frequency_step); };
  if (to.residual)
    transform_tile<F>(product, [&](int i, int j, vec v) {
      const int64_t at = i * to.row + j * to.pixel;
      store(to.y + at, max(least, v + bias + load(to.residual + at)));
    });
  else
    transform_tile<F>(product, [&](int i, int j, vec v) { store(to.y + i * to.row + j * to.pixel, max(least, v + bias)); });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
