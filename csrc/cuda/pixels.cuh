// A thread has one pixel and a pack of its channels.
#pragma once
#include "columns.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int threads = 256;

// A thread's pixel and the first of its channels, among N x H x W pixels of C channels
struct Pixel {
  int64_t n, h, w, c, offset;  // offset: of the pack, in memory
  bool inside;
  __device__ Pixel(int64_t N, int64_t H, int64_t W, int64_t C, int columns) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, packs = C / columns, pixel = i / packs;
    inside = pixel < N * H * W;
    offset = i * columns;
    c = i % packs * columns;
    w = pixel % W, h = pixel / W % H, n = pixel / W / H;
  }
};

template <class Packs>
dim3 pixel_grid(int64_t pixels, int64_t C) {
  return dim3(unsigned(divide_up(pixels * (C / Packs::columns), threads)));
}

template <class Packs>
using IndexPack = Pack<u8, Packs::columns>;

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
