// A tile of AMX has sixteen rows of 32 numbers, and those that are empty cost as much as others. What fills them.
#pragma once
#include "../cpu/operand.h"
#include "../cpu/scratch.h"

namespace fastnn::FASTNN_TABLE {

// How many of N images to interleave so that rows of `width` pixels each are at least `least` long and, to `fill` tiles, come as near to
// whole sixteens as can be.
INLINE int64_t images_to_interleave(int64_t N, int64_t width, int64_t least, int64_t most, bool fill) {
  const auto pixels = [&](int64_t images) { return double(divide_up(width * images, 16)) / double(images); };
  int64_t images = 1;
  for (int64_t more = 2; more <= most && N % more == 0; more *= 2)
    if (width * images < least || (fill && pixels(more) < pixels(images))) images = more;
  return images;
}

// Where a pixel of a padded plane is not one of the image but all of an output's window (whole_windows.h), [row][column][channel]: its rows
// and columns, from one output's to the next, and how many outputs a row has.
struct WholeWindow {
  int64_t rows, columns, step_h, step_w, outputs;
};

}  // namespace fastnn::FASTNN_TABLE
