// Tiles of a product y = a b, and how the pieces of a and b that a block works on lie in its shared memory.
//
// A block makes `rows` x `columns` of y; its warps, warps_down x warps_across, share them evenly. It takes the reduction in chunks of 64
// bytes, several of which are on their way at once. Registers are kept so few that a multiprocessor holds `resident` blocks.
#pragma once
#include "ptx.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int chunk_depth = 64 / sizeof(T);

template <int rows_, int columns_, int warps_down_, int warps_across_, int resident_, int stages_ = 3>
struct Tile {
  static constexpr int rows = rows_, columns = columns_, warps_across = warps_across_, resident = resident_, stages = stages_;
  static constexpr int threads = warps_down_ * warps_across_ * warp_size;
  static constexpr int warp_rows = rows / warps_down_, warp_columns = columns / warps_across_;
  static __device__ __forceinline__ int warp_row() { return int(threadIdx.x) / warp_size / warps_across * warp_rows; }
  static __device__ __forceinline__ int warp_column() { return int(threadIdx.x) / warp_size % warps_across * warp_columns; }

  // The sums of a tile in shared memory, as float32. With eight words more, neither four rows of eight words nor of four pairs share banks.
  static constexpr int sum_pitch = columns + 8;
};

// Where element (row, k) of a chunk of an operand lies. As in global memory, so that 16 bytes can be copied at once: rows one after the
// other, or along the depth. The pitches put the rows of 16 bytes that are read at once on banks of their own.
template <int rows_, bool along_depth_>
struct ChunkLayout {
  static constexpr int rows = rows_;
  static constexpr bool along_depth = along_depth_;
  static constexpr int line = along_depth ? chunk_depth : rows, lines = along_depth ? rows : chunk_depth;
  static constexpr int pitch = along_depth ? chunk_depth + 16 / int(sizeof(T)) : rows + 8;
  static constexpr int size = lines * pitch;
  static __device__ __forceinline__ int at(int row, int k) { return along_depth ? row * pitch + k : k * pitch + row; }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
