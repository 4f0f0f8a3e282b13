// The register tiles that convolutions and matrix products share.
//
// A tile is Q rows by Z vectors of columns: y[q][z] = sum over i of a[q][i] b[i][z], held in registers through the whole reduction.
// A row is an output pixel (or a row of a matrix), a column an output channel. Each step broadcasts a[q][i] and multiplies it by Z vectors.
//   a   lies in planes of N_LANES operands (operand.h): element (q, i) of a plane is a[q pitch + i]. A convolution adds the offset of each
//       tap.
//   b   is packed in the order the tile reads it: [block of N_LANES operands][tap][operand][Z vectors]; AMX: [..][tap][Z][operand][vector]
#pragma once
#include "activation.h"
#include "operand.h"
#include "transpose.h"
#if defined(FASTNN_TILES)
#include "../amx/tiles.h"
#endif

namespace fastnn::FASTNN_TABLE {

#if defined(__AVX512F__)
constexpr int registers = 32, spare_registers = 0;
#elif defined(__AVX2__)
constexpr int registers = 16, spare_registers = 0;
#else
constexpr int registers = 16, spare_registers = 2;  // a product needs a place of its own where there is no fused multiply-add
#endif

constexpr int most_vectors = registers == 32 && !on_tiles ? 4 : 2;  // widest plain tile, in vectors
constexpr int most_taps3_vectors = registers == 32 ? 2 : 1;         // widest tile that reuses taps
constexpr int most_rows = on_tiles ? 32 : 24;
constexpr bool as_it_lies = together == 1 && !narrow;                // a can be read unpacked
constexpr int64_t read_beyond = on_tiles ? most_rows * N_LANES : 0;  // operands behind a that a tile reads, and ignores

// Most rows of a tile of Z vectors: accumulators, the row of b (three of them with tap reuse) and one broadcast fill the registers.
constexpr int tile_rows(int Z, int b_rows) {
  if (on_tiles) return most_rows;
  const int rows = (registers - spare_registers - 1 - b_rows * Z) / Z;
  return rows < most_rows ? rows : most_rows;
}

#if !defined(FASTNN_TILES)
struct OnTiles {  // nothing to prepare
  OnTiles() {}
};
#endif

// What one tile sums over.
struct Reduction {
  const int32_t* tap;  // offset of each tap in a plane
  int taps;
  int64_t depth;                                   // operands, in planes of N_LANES, the last one perhaps shorter
  int64_t plane_stride;                            // from one plane to the next
  int64_t pitch = N_LANES, second = 16 * N_LANES;  // AMX, unpacked: from a row of a to the next; AMX: from sixteen rows to the others
  int64_t step = 1;                                // unpacked: from an operand of a to the next
};

// Where a tile goes: row q to y + row[q], `columns` of its Z N_LANES columns. Y is real, or storage: rounded when written, never added to.
template <class Y>
struct Target {
  Y* y;
  const int64_t* row;
  const real* bias;  // null: begin at 0; not added again where y is added to
  int columns;
  bool accumulate;        // add to what y holds: long sums become sums of short ones, which rounds less
  Activation activation;  // of what is written: none until the last sum has been added
};

template <class Y>
using Tile = void (*)(const Reduction&, const operand* a, const operand* b, const Target<Y>&);

// The tile of `rows` x `vectors`; rows of `a` lie `pitch` apart: N_LANES, 4, 3 or 1; 0: as the reduction says.
template <class Y>
Tile<Y> tile(int rows, int vectors, int pitch);

// AMX: sixteen rows and sixteen others `second` further, of each of which `each` are written.
template <class Y>
Tile<Y> two_rows_tile(int each, int vectors);

// The same for taps in groups of three neighbours (3-wide windows of stride 1): a row's broadcast feeds the three outputs it belongs to.
// Neighbours lie `images` rows apart (1, 2, 4 or 8). b: [block of channels][group][channel][tap of the group][Z vectors]
template <class Y>
Tile<Y> taps3_tile(int rows, int vectors, int images);

// b: a panel of `columns` (the rest up to Z N_LANES becomes 0) by `depth` numbers; row i of its operands goes to packed + i step (on tiles,
// rows follow each other vector by vector), zeros up to operands_of(depth) rows.
// In the source, number (i, column) lies at i stride + column, or at column stride + i when it is transposed.
void pack_panel(const storage* source, int64_t stride, bool transposed, int64_t depth, int columns, int Z, Piece piece, operand* packed,
                int64_t step);

// a: `rows` by `depth` numbers into planes [depth / plane_numbers][plane_rows][N_LANES], lanes beyond depth are 0.
// In the source, number (q, i) lies at q stride + i, or at i stride + q when it is transposed.
void pack_rows(const storage* source, int64_t stride, bool transposed, int64_t depth, int64_t rows, Piece piece, operand* packed,
               int64_t plane_rows);

// Of a vector of columns, how many there are.
INLINE int valid_lanes(int columns, int z) {
  const int left = columns - z * N_LANES;
  return left < 0 ? 0 : left < N_LANES ? left : N_LANES;
}

// How many vectors wide the tiles are for that many columns: as wide as does not waste much.
int tile_vectors(int64_t columns, int most);

}  // namespace fastnn::FASTNN_TABLE
