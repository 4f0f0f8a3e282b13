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
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, packs = C / columns, count = N * H * W * packs;
    inside = i < count;
    offset = i * columns;
    if (count <= INT32_MAX)  // divisions of 64 bits take as long as reading a pack
      take(uint32_t(i), uint32_t(packs), uint32_t(H), uint32_t(W), columns);
    else
      take(i, packs, H, W, columns);
  }
  template <class I>
  __device__ __forceinline__ void take(I i, I packs, I H, I W, int columns) {
    const I pixel = i / packs, line = pixel / W;
    c = int64_t(i - pixel * packs) * columns;
    w = pixel - line * W, n = line / H, h = line - I(n) * H;
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
