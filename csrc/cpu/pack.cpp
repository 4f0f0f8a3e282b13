// Operands in the order the tiles read them.
#include "gemm.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// Vector z of row i of a panel; a tile's rows follow each other.
INLINE int64_t place(int64_t i, int z, int Z, int64_t step) {
  return on_tiles ? ((i / N_LANES * Z + z) * N_LANES + i % N_LANES) * N_LANES : i * step + z * N_LANES;
}

INLINE void pack_panel_columns(const storage* source, int64_t stride, int64_t depth, int columns, int Z, Piece piece, operand* packed,
                               int64_t step) {
  const int64_t rows = operands_of(depth), filled = divide_up(depth, together);
  for (int64_t i = 0; i < filled; i++, source += together * stride)
    for (int z = 0; z < Z; z++) {
      const int n = valid_lanes(columns, z);
      const storage *p = source + z * N_LANES, *q = (i + 1) * together <= depth ? p + stride : nullptr;
      store(packed + place(i, z, Z, step), n == N_LANES ? across(p, q, piece) : n ? across_n(p, q, n, piece) : zero());
    }
  for (int64_t i = filled; i < rows; i++)
    for (int z = 0; z < Z; z++) store(packed + place(i, z, Z, step), zero());
}

// The transpose of `rows` x `numbers` of the source, at most N_LANES rows of as many operands; what is missing reads as 0.
INLINE void load_transposed(const storage* source, int64_t stride, int rows, int numbers, Piece piece, vec (&block)[N_LANES]) {
  if (rows == N_LANES && numbers == plane_numbers) {
    UNROLL for (int i = 0; i < N_LANES; i++) block[i] = along(source + i * stride, piece);
  } else {
    for (int i = 0; i < N_LANES; i++) block[i] = i < rows ? along_n(source + i * stride, numbers, piece) : zero();
  }
  transpose(block);
}

// The same for a source whose rows follow each other along the sum: `depth` of them, `columns` of which become rows.
INLINE void load_columns(const storage* source, int64_t stride, int depth, int columns, Piece piece, vec (&block)[N_LANES]) {
  if (depth == plane_numbers && columns == N_LANES) {
    UNROLL for (int i = 0; i < N_LANES; i++) {
      const storage* p = source + i * together * stride;
      block[i] = across(p, p + stride, piece);
    }
  } else {
    for (int i = 0; i < N_LANES; i++) {
      const storage* p = source + i * together * stride;
      block[i] = i * together < depth ? across_n(p, i * together + 1 < depth ? p + stride : nullptr, columns, piece) : zero();
    }
  }
  transpose(block);
}

INLINE void pack_panel_transposed(const storage* source, int64_t stride, int64_t depth, int columns, int Z, Piece piece, operand* packed,
                                  int64_t step) {
  for (int z = 0; z < Z; z++) {  // N_LANES rows of the source at a time, as many as are fetched ahead of being read
    for (int64_t i = 0; i < depth; i += plane_numbers) {
      const int n = depth - i < plane_numbers ? int(depth - i) : plane_numbers, rows = int(operands_of(n));
      vec block[N_LANES];
      load_transposed(source + z * N_LANES * stride + i, stride, valid_lanes(columns, z), n, piece, block);
      operand* const to = packed + place(i / together, z, Z, step);
      const int64_t row_step = on_tiles ? N_LANES : step;
      for (int j = 0; j < rows; j++) store(to + j * row_step, block[j]);
    }
  }
}

}  // namespace

void pack_panel(const storage* source, int64_t stride, bool transposed, int64_t depth, int columns, int Z, Piece piece, operand* packed,
                int64_t step) {
  if (transposed) return pack_panel_transposed(source, stride, depth, columns, Z, piece, packed, step);
  return pack_panel_columns(source, stride, depth, columns, Z, piece, packed, step);
}

void pack_rows(const storage* source, int64_t stride, bool transposed, int64_t depth, int64_t rows, Piece piece, operand* packed,
               int64_t plane_rows) {
  for (int64_t i = 0; i < depth; i += plane_numbers, packed += plane_rows * N_LANES) {
    const int n = depth - i < plane_numbers ? int(depth - i) : plane_numbers;
    if (transposed) {
      for (int64_t q = 0; q < rows; q += N_LANES) {
        const int m = rows - q < N_LANES ? int(rows - q) : N_LANES;
        vec block[N_LANES];
        load_columns(source + i * stride + q, stride, n, m, piece, block);
        for (int j = 0; j < m; j++) store(packed + (q + j) * N_LANES, block[j]);
      }
    } else if (n == plane_numbers) {
      for (int64_t q = 0; q < rows; q++) store(packed + q * N_LANES, along(source + q * stride + i, piece));
    } else {
      for (int64_t q = 0; q < rows; q++) store(packed + q * N_LANES, along_n(source + q * stride + i, n, piece));
    }
  }
}

int tile_vectors(int64_t columns, int most) {
  const int64_t vectors = (columns + N_LANES - 1) / N_LANES;
  if (most >= 4 && (vectors % 4 == 0 || vectors >= 7)) return 4;
  return most >= 2 && (vectors % 2 == 0 || vectors >= 3) ? 2 : 1;
}

}  // namespace fastnn::FASTNN_TABLE
