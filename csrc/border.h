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

// A place between two of [0, n), (`fixed` / 2^32): what stands for the one before it and for the one behind it, and how far behind the
// first it lies, in 2^-24. On a place itself both are that one.
struct Between {
  int64_t first, second;
  int32_t part;
};

FASTNN_SHARED Between between(int64_t fixed, int64_t n, Border border) {
  const int64_t at = fixed >> 32, first = shown(at, n, border);
  const int32_t part = int32_t(uint32_t(fixed) >> 8);
  return {first, part ? shown(at + 1, n, border) : first, part};
}

template <class R>
FASTNN_SHARED R part_of(Between b) {
  return R(b.part) * R(1.0 / (1 << 24));
}

// Between the corners a b above c d
template <class R>
FASTNN_SHARED R mean_of_four(R a, R b, R c, R d, R down, R right) {
  const R upper = a + right * (b - a), lower = c + right * (d - c);
  return upper + down * (lower - upper);
}

// (m[0] p + m[1] q + m[2]), which wraps round where it leaves the numbers
FASTNN_SHARED int64_t mapped(const int64_t* m, int64_t p, int64_t q) {
  return int64_t(uint64_t(m[0]) * uint64_t(p) + uint64_t(m[1]) * uint64_t(q) + uint64_t(m[2]));
}

}  // namespace fastnn
