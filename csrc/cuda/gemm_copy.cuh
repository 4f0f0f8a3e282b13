// From an operand in global memory to its chunks in shared memory.
//
// An operand says where element (row, k) of a (rows x depth) or of b transposed (columns x depth) lies, without a division per element:
//
//   along_depth, vector    which way neighbours in memory lie; how many of them are copied at once (16 bytes, or one element)
//   Place place(row)       what there is to know of a row; made once by each block
//   Cursor cursor(k, step) a position in the depth, and next(cursor), a step further
//   at(place, cursor)      the address, or null where the element is outside and counts as zero
//                          (which an infinite weight makes NaN there; the CPU and direct.cu leave such taps out)
//   any()                  an address that may be named, though nothing is read there
#pragma once
#include "gemm_tile.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int whole_vector = pack_width;

// A matrix: element (row, k) at row * row_stride + k * k_stride, one of which is 1.
template <bool along_depth_, int vector_>
struct Matrix {
  static constexpr bool along_depth = along_depth_;
  static constexpr int vector = vector_;
  const T* data;
  int64_t rows, depth, stride;

  using Place = const T*;
  struct Cursor {
    int64_t k;
    int step;
  };
  __device__ __forceinline__ Place place(int64_t row) const { return row < rows ? data + row * (along_depth ? stride : 1) : nullptr; }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {k, step}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { cursor.k += cursor.step; }
  __device__ __forceinline__ const T* at(Place place, const Cursor& cursor) const {
    return place && cursor.k < depth ? place + cursor.k * (along_depth ? 1 : stride) : nullptr;
  }
  __device__ __forceinline__ const T* any() const { return data; }
};

template <int vector>
__device__ __forceinline__ void copy_to_chunk(T* to, const T* from, const T* any) {
  constexpr int bytes = vector * int(sizeof(T));
  if constexpr (bytes >= 4) {
    copy_async<bytes>(to, from ? from : any, from != nullptr);
  } else {
    *to = from ? *from : T(0.0f);
  }
}

// Copies the chunks of `rows` rows of an operand, one after the other. Each thread keeps to one position within the lines (rows, or
// steps of the depth) and takes every lines_at_once-th of them.
template <class Operand, int rows, int threads>
struct ChunkCopy {
  using Layout = ChunkLayout<rows, Operand::along_depth>;
  static constexpr bool along_depth = Operand::along_depth;
  static constexpr int vector = Operand::vector, per_line = Layout::line / vector, lines_at_once = threads / per_line;
  static constexpr int lines_each = Layout::lines / lines_at_once;
  static_assert(threads % per_line == 0 && Layout::lines % lines_at_once == 0 && lines_each > 0);

  using Place = typename Operand::Place;
  struct Shared {  // a thread meets many rows only when it goes along the depth
    Place place[along_depth ? rows : 1];
  };

  const Operand& operand;
  Shared& shared;
  typename Operand::Cursor cursor;
  Place own;

  __device__ __forceinline__ ChunkCopy(const Operand& operand, Shared& shared, int64_t first_row) : operand(operand), shared(shared) {
    if constexpr (along_depth) {
      for (int row = int(threadIdx.x); row < rows; row += threads) shared.place[row] = operand.place(first_row + row);
    } else {
      own = operand.place(first_row + within());
    }
  }

  static __device__ __forceinline__ int within() { return int(threadIdx.x) % per_line * vector; }
  static __device__ __forceinline__ int first_line() { return int(threadIdx.x) / per_line; }

  __device__ __forceinline__ void start(int64_t k) {
    cursor = along_depth ? operand.cursor(k + within(), chunk_depth) : operand.cursor(k + first_line(), lines_at_once);
  }
  __device__ __forceinline__ void next(T* chunk) {
    UNROLL for (int i = 0; i < lines_each; i++) {
      const int line = first_line() + i * lines_at_once;
      const T* from = operand.at(along_depth ? shared.place[along_depth ? line : 0] : own, cursor);
      copy_to_chunk<vector>(chunk + line * Layout::pitch + within(), from, operand.any());
      if (!along_depth) operand.next(cursor);
    }
    if (along_depth) operand.next(cursor);
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
