// How a block multiplies a chunk of a and b that lies in shared memory. A way to multiply is a struct with its tiles and
//
//   Core<Tile, a_along, b_along>    a thread's sums
//     LayoutA, LayoutB              how a chunk of a and of b lies
//     add(a, b)                     sums += a b over one chunk
//     put(tile)                     leaves the tile's sums in shared memory, [rows][Tile::sum_pitch]
//     goes_on                       whether add() returns before it is done; finish<n>() waits until only the last n are not
//
// The order in which an element's products are summed does not depend on the tile.
#pragma once
#include "gemm_groups.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// --- float32 multiply-adds

// A warp's lanes lie 4 x 8, each with (warp_rows / 4) x (warp_columns / 8) sums. Fragments are read 16 bytes at a time: along the depth,
// neighbouring lanes take neighbouring rows (20 words apart: 8 of them hit all banks once); else each lane takes 4 rows that lie together.
template <class Tile, bool a_along, bool b_along>
struct FfmaCore {
  using LayoutA = ChunkLayout<Tile::rows, a_along>;
  using LayoutB = ChunkLayout<Tile::columns, b_along>;
  static constexpr bool goes_on = false;
  static constexpr int lanes_down = 4, lanes_across = 8;
  static constexpr int down = Tile::warp_rows / lanes_down / 4, across = Tile::warp_columns / lanes_across / 4;  // in fours
  float sum[4 * down][4 * across] = {};

  template <bool along, int lanes>
  static __device__ __forceinline__ int place(int lane, int i) {  // of a lane's i-th row
    return along ? i * lanes + lane : (i / 4 * lanes + lane) * 4 + i % 4;
  }

  // piece[i][k]: four rows by four steps of the depth
  template <class Layout, int lanes>
  static __device__ __forceinline__ void load(const T* chunk, int first, int lane, int four, int k, float (&piece)[4][4]) {
    UNROLL for (int n = 0; n < 4; n++) {
      const int row = first + place<Layout::along_depth, lanes>(lane, 4 * four + (Layout::along_depth ? n : 0));
      const auto pack = *reinterpret_cast<const Pack<T, 4>*>(chunk + Layout::at(row, Layout::along_depth ? k : k + n));
      UNROLL for (int m = 0; m < 4; m++)(Layout::along_depth ? piece[n][m] : piece[m][n]) = float(pack.e[m]);
    }
  }

  __device__ __forceinline__ void add(const T* a, const T* b) {
    const int lane = int(threadIdx.x) % warp_size;
    UNROLL for (int k = 0; k < LayoutA::depth; k += 4) {
      float right[across][4][4];
      UNROLL for (int j = 0; j < across; j++) load<LayoutB, lanes_across>(b, Tile::warp_column(), lane % lanes_across, j, k, right[j]);
      UNROLL for (int i = 0; i < down; i++) {
        float left[4][4];
        load<LayoutA, lanes_down>(a, Tile::warp_row(), lane / lanes_across, i, k, left);
        UNROLL for (int n = 0; n < 4; n++) UNROLL for (int r = 0; r < 4; r++) UNROLL for (int c = 0; c < 4 * across; c++) {
          float& s = sum[4 * i + r][c];
          s = fmaf(left[r][n], right[c / 4][c % 4][n], s);
        }
      }
    }
  }

  __device__ __forceinline__ void put(float* tile) const {
    const int lane = int(threadIdx.x) % warp_size;
    UNROLL for (int r = 0; r < 4 * down; r++) {
      const int row = Tile::warp_row() + place<a_along, lanes_down>(lane / lanes_across, r);
      UNROLL for (int c = 0; c < 4 * across; c++)
          tile[row * Tile::sum_pitch + Tile::warp_column() + place<b_along, lanes_across>(lane % lanes_across, c)] = sum[r][c];
    }
  }
};

// --- tensor cores

// A piece of 16 rows x 32 bytes of depth, as four words: the corners 8 x 16 bytes in the order that mma wants. Of a: rows first, then
// depth; of b, where the 16 rows are two of mma's columns of tiles: depth first.
template <class Layout, bool rows_first>
__device__ __forceinline__ void load_piece(uint32_t (&word)[4], const T* chunk, int row, int k) {
  constexpr int corner = 16 / sizeof(T);
  const int lane = int(threadIdx.x) % warp_size;
  if constexpr (Layout::along_depth || sizeof(T) == 2) {
    const int first = lane / 8 % 2, second = lane / 16, within = lane % 8;
    row += (rows_first ? first : second) * 8 + (Layout::along_depth ? within : 0);
    k += (rows_first ? second : first) * corner + (Layout::along_depth ? 0 : within);
    load_matrices<!Layout::along_depth>(word, chunk + Layout::at(row, k));
  } else {  // ldmatrix does not transpose words
    UNROLL for (int i = 0; i < 4; i++) {
      const int down = rows_first ? i % 2 : i / 2, deep = rows_first ? i / 2 : i % 2;
      word[i] = bits_of(chunk[Layout::at(row + 8 * down + lane / 4, k + corner * deep + lane % 4)]);
    }
  }
}

struct Bf16Product {
  struct Piece {
    uint32_t word[4];
    __device__ __forceinline__ void prepare() {}
  };
  static __device__ __forceinline__ void add(float (&sum)[4], const Piece& a, const Piece& b, int half) {
    mma_bf16(sum, a.word, {b.word[2 * half], b.word[2 * half + 1]});
  }
};

struct Tf32Product {
  struct Piece {
    uint32_t word[4];
    __device__ __forceinline__ void prepare() { UNROLL for (int i = 0; i < 4; i++) word[i] = to_tf32(float_of(word[i])); }
  };
  static __device__ __forceinline__ void add(float (&sum)[4], const Piece& a, const Piece& b, int half) {
    mma_tf32(sum, a.word, {b.word[2 * half], b.word[2 * half + 1]});
  }
};

// a b = (A + a')(B + b') without a' b', where A, B are TF32 and a', b' what they leave: 21 bits of each operand. Small products first.
// A is finite and has a's sign: of Inf and NaN it is about 1, and what it leaves is Inf or NaN. So A b' and a' B are what a b is, where Inf
// times the nothing that most numbers leave would be NaN. A number too large to be rounded up is cut.
// Tensor cores truncate when they add to a sum (Fasi, Higham, Mikaitis, Pranesh 2021), so a long one is made of short ones by plain
// additions.
struct Tf32x3Product {
  struct Piece {
    uint32_t word[4], rest[4];
    __device__ __forceinline__ void prepare() {
      constexpr uint32_t exponent = 0x7f800000, top_of_exponent = 0x40000000, kept = 0xffffe000;
      UNROLL for (int i = 0; i < 4; i++) {
        const float value = float_of(word[i]);
        uint32_t large = to_tf32(value);
        if ((large & exponent) == exponent) large = word[i] & kept & ((word[i] & exponent) == exponent ? ~top_of_exponent : ~0u);
        word[i] = large;
        rest[i] = to_tf32(value - float_of(large));
      }
    }
  };
  static __device__ __forceinline__ void add(float (&sum)[4], const Piece& a, const Piece& b, int half) {
    float part[4] = {};
    mma_tf32(part, a.rest, {b.word[2 * half], b.word[2 * half + 1]});
    mma_tf32(part, a.word, {b.rest[2 * half], b.rest[2 * half + 1]});
    mma_tf32(part, a.word, {b.word[2 * half], b.word[2 * half + 1]});
    UNROLL for (int i = 0; i < 4; i++) sum[i] += part[i];
  }
};

template <class Product, class Tile, bool a_along, bool b_along>
struct MmaCore {
  using LayoutA = ChunkLayout<Tile::rows, a_along>;
  using LayoutB = ChunkLayout<Tile::columns, b_along>;
  static constexpr bool goes_on = false;
  static constexpr int down = Tile::warp_rows / 16, across = Tile::warp_columns / 16, step = 32 / sizeof(T);
  float sum[down][2 * across][4] = {};

  __device__ __forceinline__ void add(const T* a, const T* b) {
    using Piece = typename Product::Piece;
    UNROLL for (int k = 0; k < LayoutA::depth; k += step) {
      Piece left[down];
      UNROLL for (int i = 0; i < down; i++) {
        load_piece<LayoutA, true>(left[i].word, a, Tile::warp_row() + 16 * i, k);
        left[i].prepare();
      }
      UNROLL for (int j = 0; j < across; j++) {
        Piece right;
        load_piece<LayoutB, false>(right.word, b, Tile::warp_column() + 16 * j, k);
        right.prepare();
        UNROLL for (int i = 0; i < down; i++) UNROLL for (int half = 0; half < 2; half++)
            Product::add(sum[i][2 * j + half], left[i], right, half);
      }
    }
  }

  __device__ __forceinline__ void put(float* tile) const {
    const int g = int(threadIdx.x) % warp_size / 4, t = int(threadIdx.x) % 4;
    UNROLL for (int i = 0; i < down; i++) UNROLL for (int j = 0; j < 2 * across; j++) UNROLL for (int half = 0; half < 2; half++) {
      const int row = Tile::warp_row() + 16 * i + 8 * half + g, column = Tile::warp_column() + 8 * j + 2 * t;
      *reinterpret_cast<Pack<float, 2>*>(tile + row * Tile::sum_pitch + column) = {sum[i][j][2 * half], sum[i][j][2 * half + 1]};
    }
  }
};

// --- the ways

constexpr int64_t multiprocessors = 132;  // of a large GPU; the tile is a function of the shape, so it is the same on others

// A tile, and what a round of it takes: as many as are resident on each multiprocessor, of `chunks` chunks. In units of a way's own.
struct TileShape {
  int64_t rows, columns, resident;
  double start, chunk;
  int64_t count(int64_t all_rows, int64_t all_columns) const { return divide_up(all_rows, rows) * divide_up(all_columns, columns); }
  double time(int64_t tiles, int64_t chunks) const {
    return double(divide_up(tiles, multiprocessors * resident)) * (start + chunk * double(chunks));
  }
};

struct ThreadsRead {
  using Small = Tile<64, 64, 2, 2, 3>;
  using Tiny = Tile<32, 32, 2, 1, 4>;
  // Guesses, from the sums per byte read from shared memory and the warps that share a barrier
  static constexpr TileShape shapes[] = {
      {32, 32, 1, 0, 32 * 32 / 0.4}, {64, 64, 1, 0, 64 * 64 / 0.75}, {128, 64, 1, 0, 128 * 64 / 0.9}, {128, 128, 1, 0, 128 * 128}};
  static constexpr bool only_hopper = false;
};

// Large and Tall tiles have 32 x 64 sums for a warp, 64 in each thread. In bfloat16 a large one has 64 x 64: its products are so fast that
// with less, reading the fragments from shared memory would take longer.
struct Ffma : ThreadsRead {
  using Large = Tile<128, 128, 4, 2, 1>;
  using Tall = Tile<128, 64, 4, 1, 3>;
  template <class Tile, bool a_along, bool b_along>
  using Core = FfmaCore<Tile, a_along, b_along>;
};
struct Tf32x3 : ThreadsRead {
  using Large = Tile<128, 128, 4, 2, 1>;
  using Tall = Tile<128, 64, 4, 1, 2>;
  template <class Tile, bool a_along, bool b_along>
  using Core = MmaCore<Tf32x3Product, Tile, a_along, b_along>;
};
struct Tf32 : ThreadsRead {
  using Large = Tile<128, 128, 4, 2, 1>;
  using Tall = Tile<128, 64, 4, 1, 2>;
  template <class Tile, bool a_along, bool b_along>
  using Core = MmaCore<Tf32Product, Tile, a_along, b_along>;
};
struct Bf16 : ThreadsRead {
  using Large = Tile<128, 128, 2, 2, 2>;
  using Tall = Tile<128, 64, 4, 1, 2>;
  template <class Tile, bool a_along, bool b_along>
  using Core = MmaCore<Bf16Product, Tile, a_along, b_along>;
};
// Bfloat16 on Hopper. What tiles bring from the L2 cache for each sum decides in long depths, how soon the next one begins in short ones.
struct GroupBf16 {
  using Deep = GroupTile<128, 128, 2, 1, 6>;
  using Large = GroupTile<256, 128, 2, 1, 4>;
  using Tall = GroupTile<128, 128, 2, 2, 3>;
  using Small = GroupTile<128, 64, 2, 2, 4>;
  using Tiny = GroupTile<64, 64, 1, 3, 4>;
  // Nanoseconds on an H200, fitted to convolutions of 9 and of 36 chunks; they foretell those of 18 and 72 within a tenth (bench/NOTES.md).
  static constexpr TileShape shapes[] = {
      {64, 64, 3, 2800, 690}, {128, 64, 2, 3000, 795}, {128, 128, 2, 4500, 1210}, {256, 128, 1, 5900, 1050}, {128, 128, 1, 4360, 587}};
  static constexpr bool only_hopper = true;
  template <class Tile, bool a_along, bool b_along>
  using Core = GroupCore<Tile, a_along, b_along>;
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
