// Backward to the weight sums over all pixels. They are cut into chunks (image groups x bands of output rows) that fit the L2 cache, and
// chunks into a number of partial sums that depends on the shape only; the partial sums are added in order at the end.
#pragma once
#include "../scratch.h"
#include "padded.h"

namespace fastnn::FASTNN_TABLE {

struct Chunks {
  int64_t groups;                        // of interleaved images in a chunk
  int64_t bands, band_rows, plane_rows;  // bands of output rows, and the rows of x that one needs
  int64_t count;                         // chunks
  int64_t parts;                         // partial sums; part i has chunks [count i / parts, count (i + 1) / parts)

  // `plane_bytes(rows)`: what one group of images takes in the cache; group_count: how many groups of images there are.
  template <class Bytes>
  INLINE void choose(int64_t group_count, int64_t height, int64_t most_bytes, int64_t most_parts, Bytes plane_bytes) {
    band_rows = larger(1, height);
    while (band_rows > 1 && plane_bytes(band_rows) > most_bytes) band_rows = divide_up(band_rows, 2);
    bands = divide_up(height, band_rows);
    groups = 1;
    while (bands == 1 && group_count % (2 * groups) == 0 && group_count / (2 * groups) >= most_parts &&
           plane_bytes(band_rows) * 2 * groups <= most_bytes)
      groups *= 2;
    count = group_count / groups * bands;
    parts = larger(1, smaller(most_parts, count));
  }
};

}  // namespace fastnn::FASTNN_TABLE
