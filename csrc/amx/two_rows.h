// What direct convolution (cpu/conv2d/direct.cpp, in whose namespace this is included) does on AMX so that a tile's sixteen pixels are all
// of use.
#pragma once

// The rows of y that a tile of two rows writes: sixteen outputs of one, then the same ones of the next.
INLINE void find_two_rows(const Direct& d, const DirectTables& tables) {
  for (int64_t j = 0; j < phase_width(d) * d.input.images; j++) {
    int64_t* const first = tables.two_rows + j / 16 * 32 + j % 16;
    first[0] = tables.row[j], first[16] = tables.row[j] + row_step(d);
  }
}

// AMX, rows of an odd number of sixteens: a tile has sixteen pixels of one row and the same ones of the next.
INLINE void sweep_two_rows(const Direct& d, const OutputPhase& phase, const Band& band, Reduction over, const operand* plane,
                           const operand* weights, const int64_t* two_rows, Target<storage> to) {
  const int64_t length = phase.W * d.input.images, plane_step = d.input.step_h * d.input.row_stride();
  storage* y = to.y + band.begin * row_step(d);
  over.second = plane_step;
  for (int64_t p = band.begin; p < band.end; p += 2, plane += 2 * plane_step, y += 2 * row_step(d)) {
    to.y = y;
    for (int64_t done = 0; done < length; done += 16) {
      const int count = int(smaller(16, length - done));
      to.row = two_rows + 2 * done;
      (p + 1 < band.end ? two_rows_tile<storage>(count, d.Z) : tile<storage>(count, d.Z, d.input.pitch))(over, plane + done * d.input.pitch,
                                                                                                         weights, to);
    }
  }
}
