// Products of warpgroups, Hopper's: they run by themselves, from shared memory, while the threads copy what comes next.
#pragma once
#include "activation.cuh"
#include "gemm_tile.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// A warpgroup has group_rows x columns, in products of 64 x 64 or 64 x 128.
template <class Tile, bool a_along, bool b_along>
struct GroupCore {
  using LayoutA = SwizzledLayout<Tile::rows, a_along>;
  using LayoutB = SwizzledLayout<Tile::columns, b_along>;
  static constexpr bool goes_on = true;
  static constexpr int columns = Tile::columns < 128 ? Tile::columns : 128, step = 16;
  static constexpr int down = Tile::group_rows / 64, across = Tile::columns / columns;
  float sum[down][across][columns / 8][4] = {};

  __device__ __forceinline__ GroupCore() { settle(); }
  static __device__ __forceinline__ int first_row() { return int(threadIdx.x) / group_size * Tile::group_rows; }
  static __device__ __forceinline__ int first_column() { return int(threadIdx.x) % 4 * 2; }
  // How far element (row, k) of a chunk lies in it; row and k are multiples of 64 and of 16, so that only whole lines or pieces are before
  // it.
  template <class Layout>
  static __device__ __forceinline__ int at(int row, int k) {
    return Layout::along_depth ? row * Layout::in_line + k : row * Layout::lines + k * Layout::in_line;
  }

  __device__ __forceinline__ void add(const T* a, const T* b) {
    const GroupOperand left(a + at<LayoutA>(first_row(), 0)), right(b);
    begin_group_products();
    UNROLL for (int k = 0; k < LayoutA::depth; k += step) UNROLL for (int i = 0; i < down; i++) UNROLL for (int j = 0; j < across; j++)
        multiply_group<a_along, b_along>(sum[i][j], left + at<LayoutA>(64 * i, k), right + at<LayoutB>(columns * j, k));
    commit_group_products();
  }
  template <int left>
  __device__ __forceinline__ void finish() {
    wait_for_group_products<left>();
    if (!left) settle();
  }
  // The compiler writes the sums before and reads them behind this.
  __device__ __forceinline__ void settle() {
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int j = 0; j < across; j++) settle_sums(sum[i][j]);
  }

  // begin(row)(column, first, second): neighbours that this thread has, row by row
  template <class F>
  __device__ __forceinline__ void visit(const F& begin) {
    const int warp = int(threadIdx.x) % group_size / warp_size, g = int(threadIdx.x) % warp_size / 4;
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++) {
      const auto each = begin(first_row() + 64 * i + 16 * warp + 8 * half + g);
      UNROLL for (int j = 0; j < across; j++) UNROLL for (int n = 0; n < columns / 8; n++)
          each(columns * j + 8 * n + first_column(), sum[i][j][n][2 * half], sum[i][j][n][2 * half + 1]);
    }
  }
  __device__ __forceinline__ void put(float* tile) {
    visit([=](int row) {
      float* const to = tile + row * Tile::sum_pitch;
      return [=](int column, float first, float second) { *reinterpret_cast<Pack<float, 2>*>(to + column) = {first, second}; };
    });
  }

  // Sums plus bias[column], of which there are `left`
  __device__ __forceinline__ void add_bias(const float* bias, int64_t left) {
    UNROLL for (int j = 0; j < across; j++) UNROLL for (int n = 0; n < columns / 8; n++) UNROLL for (int v = 0; v < 2; v++) {
      const int column = columns * j + 8 * n + first_column() + v;
      const float more = column < left ? bias[column] : 0;
      UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++) sum[i][j][n][2 * half + v] += more;
    }
  }
  __device__ __forceinline__ void relu() {
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int j = 0; j < across; j++) UNROLL for (int n = 0; n < columns / 8; n++)
        UNROLL for (int v = 0; v < 4; v++) sum[i][j][n][v] = activate<Activation::relu>(sum[i][j][n][v]);
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
