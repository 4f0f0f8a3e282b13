// The padded copy of a convolution's input that the register tiles read:
//
//   [block of N_LANES operands][row][column phase][column][image][N_LANES]
//
// Every tap, stride, padding and image border is then one constant offset, and neighbouring outputs of a row lie N_LANES elements apart:
// columns are dealt out to `step_w` phases, one for each residue of the stride, and short rows of several images are interleaved.
// Up to four channels take a narrower pixel: `pitch` is N_LANES, 4, 3 or 1. One block of work copies the rows it needs into its
// worker's part of the scratch, where they stay in the L2 cache. Where an operand is two numbers (operand.h), these are neighbouring
// channels for a sum over channels, and the same channel of two neighbouring images for a sum over pixels (`of_two_images`).
#pragma once
#include "../../amx/fill.h"
#include "../operand.h"
#include "../scratch.h"

namespace fastnn::FASTNN_TABLE {

struct PaddedInput {
  int64_t H, W, pixel_stride;  // the source image and the elements from one of its pixels to the next
  int64_t channels;            // copied: those of one group
  int64_t images;              // interleaved (pairs of them, of_two_images)
  int64_t top, left;           // source row and column of the plane's corner; negative where there is padding
  int64_t columns;             // of the plane
  int64_t step_h, step_w;      // from one output's window to the next
  int64_t used_h, used_w;      // rows and columns whose residue by the step is beyond these are read by no tap
  int pitch;
  bool of_two_images = false;
  WholeWindow window = {};  // of no rows: pixels are pixels

  // columns of one phase, elements of a row, elements of one block of channels when it has `rows` rows
  INLINE int64_t phase_columns() const { return divide_up(columns, step_w); }
  INLINE int64_t row_stride() const { return smaller(step_w, used_w) * phase_columns() * images * pitch; }
  INLINE int64_t plane_stride(int64_t rows) const { return window.rows ? N_LANES : rows * row_stride() + N_LANES; }  // no power of two
  INLINE int64_t plane_channels() const { return of_two_images ? N_LANES : plane_numbers; }
  INLINE int64_t planes() const { return divide_up(channels, plane_channels()); }
  INLINE int64_t size(int64_t rows) const { return window.rows ? rows * row_stride() : planes() * plane_stride(rows); }
  INLINE int64_t offset(int64_t row, int64_t column) const {
    return row * row_stride() + (column % step_w * phase_columns() + column / step_w) * images * pitch;
  }
};

INLINE int pitch_of(int64_t channels) {
  if (together > 1) return N_LANES;
  return channels == 1 ? 1 : channels > 4 || N_LANES < 4 ? N_LANES : channels == 3 ? 3 : 4;
}

// Copies rows [first, first + rows) of the plane for in.images images; x is the first one's first pixel and channel. Of two images: there
// are `images_left` from that one on.
void copy_rows(const PaddedInput& in, const storage* x, int64_t first, int64_t rows, operand* planes, int64_t plane_stride,
               Piece piece = Piece::all, int64_t images_left = 0);

}  // namespace fastnn::FASTNN_TABLE
