// Tiles of a product y = a b, and how the pieces of a and b that a block works on lie in its shared memory.
//
// A block makes `rows` x `columns` of y; its warps, warps_down x warps_across, share them evenly. It takes the reduction in chunks, several
// of which are on their way at once. Registers are kept so few that a multiprocessor holds `resident` blocks.
#pragma once
#include "ptx.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

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

// The same in warpgroups, `groups` of four warps, that lie one below the other.
template <int rows_, int columns_, int groups, int resident_, int stages_>
struct GroupTile {
  static constexpr int rows = rows_, columns = columns_, resident = resident_, stages = stages_;
  static constexpr int threads = groups * group_size, group_rows = rows / groups;
  static constexpr int sum_pitch = columns + 8;
};

// Where a chunk of an operand lies. As in global memory, so that 16 bytes can be copied at once: lines of elements along the depth, one for
// each row; or lines of rows, one for each step of the depth.
template <int rows_, bool along_depth_, int bytes>
struct Chunk {
  static constexpr int rows = rows_, depth = bytes / int(sizeof(T));
  static constexpr bool along_depth = along_depth_;
  static constexpr int line = along_depth ? depth : rows, lines = along_depth ? rows : depth;
};

// For threads that read it. The pitches put the rows of 16 bytes that are read at once on banks of their own.
template <int rows, bool along_depth>
struct ChunkLayout : Chunk<rows, along_depth, 64> {
  using Base = Chunk<rows, along_depth, 64>;
  static constexpr int pitch = along_depth ? Base::depth + 16 / int(sizeof(T)) : rows + 8;
  static constexpr int size = Base::lines * pitch, alignment = 16;
  static __device__ __forceinline__ int place(int line, int within) { return line * pitch + within; }
  static __device__ __forceinline__ int at(int row, int k) { return along_depth ? place(row, k) : place(k, row); }
};

// For the tensor core, which reads it by itself: lines of 128 bytes (of 64 rows each, where there are more), in which piece p of 16 bytes
// of line l takes the place p ^ l % 8.
template <int rows, bool along_depth>
struct SwizzledLayout : Chunk<rows, along_depth, 128> {
  using Base = Chunk<rows, along_depth, 128>;
  static constexpr int piece = 16 / int(sizeof(T)), in_line = 8 * piece;
  static constexpr int size = rows * Base::depth, alignment = 1024;
  static_assert(along_depth || rows % in_line == 0);
  static __device__ __forceinline__ int place(int line, int within) {
    const int pieces = within / piece % 8 ^ line % 8;
    return within / in_line * (Base::lines * in_line) + line * in_line + pieces * piece + within % piece;
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
