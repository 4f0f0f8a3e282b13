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

// --- places of projective maps and lenses, in float64: the same bits on every processor

struct Place {  // in 2^-32 of a pixel
  int64_t h, w;
};

// Nowhere (NaN, where a divisor is 0) lies far outside, as what is too far away for the numbers does
FASTNN_SHARED int64_t fixed_place(double place) {
  constexpr double most = double(int64_t{1} << 61);
  const double fixed = place * 4294967296.0;
  return int64_t(fixed > -most ? (fixed < most ? fixed : most) : -most);
}

constexpr int64_t bent_numbers = 11;  // of a sample: m, Augment's `bent`
FASTNN_SHARED bool is_bent(const double* m) { return m[6] != 0 || m[7] != 0 || m[8] != 1 || m[9] != 0 || m[10] != 0; }

struct Bend {
  const double* m;
  double middle_h, middle_w, per_square;  // of distances from the middle: 1 at the corners
  FASTNN_SHARED Bend(const double* m, int64_t H, int64_t W)
      : m(m), middle_h(double(H - 1) / 2), middle_w(double(W - 1) / 2), per_square(4 / (double(H) * double(H) + double(W) * double(W))) {}

  FASTNN_SHARED Place place(int64_t p, int64_t q) const {
    const double i = double(p), j = double(q), divisor = m[6] * i + m[7] * j + m[8];
    const double h = (m[0] * i + m[1] * j + m[2]) / divisor - middle_h, w = (m[3] * i + m[4] * j + m[5]) / divisor - middle_w;
    const double square = (h * h + w * w) * per_square, t = square < 1 ? square : 1, by = 1 + t * (m[9] + t * m[10]);
    return {fixed_place(middle_h + h * by), fixed_place(middle_w + w * by)};
  }
};

}  // namespace fastnn
