// Which pixel of an image stands for one that may lie outside of it, shared by CPU and CUDA.
#pragma once
#include "kernels.h"
#include "shared.h"

namespace fastnn {

// The place in [0, n) that place i shows; -1 where that is no pixel but the fill. Mirrored about the outermost places as often as it takes.
FASTNN_SHARED int64_t shown(int64_t i, int64_t n, Border border) {
  if (i >= 0 && i < n) return i;
  if (border == Border::constant) return -1;
  if (border == Border::edge || n == 1) return i < 0 ? 0 : n - 1;
  const int64_t period = 2 * (n - 1), turn = i % period, place = turn < 0 ? turn + period : turn;
  return place < n ? place : period - place;
}

}  // namespace fastnn
