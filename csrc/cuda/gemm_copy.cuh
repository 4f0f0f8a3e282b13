// From an operand in global memory to its chunks in shared memory.
//
// An operand says where element (row, k) of a (rows x depth) or of b transposed (columns x depth) lies. Its neighbours in memory are a
// line: along the depth, a row; else a step of the depth. What there is to know of an address is the sum of two parts, so that little is
// left to do for each 16 bytes:
//
//   along_depth, vector    which way neighbours in memory lie; how many of them are copied at once (16 bytes, or one element)
//   Place                  of a line: made by one thread for all, of a row once for a tile, of a step of the depth once
//   Shift                  of a position within lines: a thread's own
//   row(i)                 the row's Place or Shift
//   Cursor cursor(k, step) a position in the depth, next(cursor), a step further, and step(cursor), its Shift or Place
//   at(place, shift)       the address, and whether it is inside: else the element counts as zero
//                          (which an infinite weight makes NaN there; the CPU and direct.cu leave such taps out)
#pragma once
#include "gemm_tile.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int whole_vector = pack_width;

struct Source {
  const T* from;  // names something where it is inside
  bool inside;
};

// So many elements on, also where that is no place of the array and will only be named: pointers may not go there, numbers may.
__device__ __forceinline__ const T* beyond(const T* p, int64_t elements) {
  return reinterpret_cast<const T*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(elements) * sizeof(T));
}

// Where part of an address begins, if there is such a line; and how far in it an element lies, if there is one.
struct alignas(16) LinePlace {
  const T* base;
  int inside;
};
struct LineShift {
  int64_t offset;
  bool inside;
};
__device__ __forceinline__ Source source_at(const LinePlace& place, const LineShift& shift) {
  return {beyond(place.base, shift.offset), bool(int(shift.inside) & int(place.inside))};
}

struct Step {
  int64_t k;
  int step;
};

// A matrix: element (row, k) at row * stride + k along the depth, else at k * stride + row.
template <bool along_depth_, int vector_>
struct Matrix {
  static constexpr bool along_depth = along_depth_;
  static constexpr int vector = vector_;
  const T* data;
  int64_t rows, depth, stride;

  using Place = LinePlace;
  using Shift = LineShift;
  using Cursor = Step;
  __device__ __forceinline__ auto row(int64_t i) const { return part<along_depth>(i, i < rows); }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {k, step}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { cursor.k += cursor.step; }
  __device__ __forceinline__ auto step(const Cursor& cursor) const { return part<!along_depth>(cursor.k, cursor.k < depth); }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return source_at(place, shift); }

 private:
  template <bool line>
  __device__ __forceinline__ auto part(int64_t i, bool inside) const {
    if constexpr (line)
      return Place{beyond(data, i * stride), inside};
    else
      return Shift{i, inside};
  }
};

template <int vector>
__device__ __forceinline__ void copy_to_chunk(T* to, const Source& source) {
  constexpr int bytes = vector * int(sizeof(T));
  if constexpr (bytes >= 4) {
    copy_async<bytes>(to, source.from, source.inside);
  } else {
    *to = source.inside ? *source.from : T(0.0f);
  }
}

// Copies the chunks of an operand, one after the other. Each thread keeps to one position within the lines and takes every lines_at_once-th
// of them. There is a barrier between two calls of next(), and behind start().
template <class Operand, class Layout, int threads>
struct ChunkCopy {
  static constexpr bool along_depth = Operand::along_depth;
  static constexpr int rows = Layout::rows, depth = Layout::depth;
  static constexpr int vector = Operand::vector, per_line = Layout::line / vector, lines_at_once = threads / per_line;
  static constexpr int lines_each = Layout::lines / lines_at_once;
  static_assert(threads % per_line == 0 && Layout::lines % lines_at_once == 0 && lines_each > 0 && depth <= threads);

  using Place = typename Operand::Place;
  struct Shared {
    Place place[along_depth ? rows : 2 * depth];  // of this chunk's lines and the next one's
  };

  const Operand& operand;
  Shared& shared;
  typename Operand::Cursor cursor;
  typename Operand::Shift shift;
  int first_place = 0;

  __device__ __forceinline__ ChunkCopy(const Operand& operand, Shared& shared, int64_t first_row) : operand(operand), shared(shared) {
    if constexpr (along_depth) {
      for (int row = int(threadIdx.x); row < rows; row += threads) shared.place[row] = operand.row(first_row + row);
    } else {
      shift = operand.row(first_row + within());
    }
  }

  static __device__ __forceinline__ int within() { return int(threadIdx.x) % per_line * vector; }
  static __device__ __forceinline__ int first_line() { return int(threadIdx.x) / per_line; }

  __device__ __forceinline__ void start(int64_t k) {
    cursor = operand.cursor(k + (along_depth ? within() : int(threadIdx.x) % depth), depth);
    if constexpr (!along_depth) note_lines();
  }
  __device__ __forceinline__ void next(T* chunk) {
    const Place* place = shared.place;
    if constexpr (along_depth) {
      shift = operand.step(cursor);
      operand.next(cursor);
    } else {
      place += first_place;
      first_place ^= depth;
      note_lines();
    }
    UNROLL for (int i = 0; i < lines_each; i++) {
      const int line = first_line() + i * lines_at_once;
      copy_to_chunk<vector>(chunk + Layout::place(line, within()), operand.at(place[line], shift));
    }
  }
  __device__ __forceinline__ void note_lines() {
    if (int(threadIdx.x) < depth) shared.place[first_place + int(threadIdx.x)] = operand.step(cursor);
    operand.next(cursor);
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
