// Several strided arrays stepped through together: a Space is their common dimensions on the host, a Walk finds the elements on the device.
#pragma once
#include "launch.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// Division of numbers below 2^31 by one that stays (Granlund and Montgomery, "Division by invariant integers using multiplication", 1994).
struct Divisor {
  uint32_t value = 1, multiplier = 1;
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(uint32_t(divisor)) {
    while ((int64_t{1} << shift) < divisor) shift++;
    multiplier = uint32_t(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - value)) / value + 1);
  }
  __device__ __forceinline__ uint32_t divide(uint32_t n) const { return (uint32_t(uint64_t(n) * multiplier >> 32) + n) >> shift; }
};

// Dimensions outermost first; those of size 1 are left out, those that run together in every array are one.
template <int arrays>
struct Space {
  int rank = 0;
  int64_t dims[max_rank] = {}, stride[arrays][max_rank] = {}, start[arrays] = {};

  // one more dimension inside of those that are there
  void add(int64_t n, const int64_t (&step)[arrays]) {
    if (n == 1) return;
    bool runs_on = rank > 0;
    for (int a = 0; a < arrays; a++) runs_on = runs_on && stride[a][rank - 1] == n * step[a];
    if (runs_on)
      dims[rank - 1] *= n;
    else
      dims[rank++] = n;
    for (int a = 0; a < arrays; a++) stride[a][rank - 1] = step[a];
  }

  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; d++) n *= dims[d];
    return n;
  }
  int64_t inner_size() const { return rank ? dims[rank - 1] : 1; }
  int64_t inner_step(int array) const { return rank ? stride[array][rank - 1] : 1; }
  bool is_dense() const {  // in every array
    bool dense = rank <= 1;
    for (int a = 0; a < arrays; a++) dense = dense && inner_step(a) == 1;
    return dense;
  }

  // Whether the array's elements are neighbours innermost, and all that it starts from and steps by are multiples of `width`
  bool steps_by(int array, int64_t width) const {
    bool whole = inner_step(array) == 1 && start[array] % width == 0;
    for (int d = 0; d < rank - 1; d++) whole = whole && stride[array][d] % width == 0;
    return whole;
  }
  Space in_packs(int64_t width) const {  // of elements of the innermost dimension
    Space s = *this;
    s.dims[rank - 1] /= width;
    for (int a = 0; a < arrays; a++) s.stride[a][rank - 1] *= width;
    return s;
  }
};

// body(space) of pieces small enough that a Walk can number their elements
template <int arrays, class F>
void for_pieces(const Space<arrays>& space, const F& body) {
  constexpr int64_t most = int64_t{1} << 30;
  const int64_t count = space.count();
  if (count == 0) return;
  if (count <= most) return body(space);
  int d = 0;
  while (space.dims[d] == 1) d++;
  Space<arrays> first = space, second = space;
  first.dims[d] = space.dims[d] / 2;
  second.dims[d] = space.dims[d] - first.dims[d];
  for (int a = 0; a < arrays; a++) second.start[a] += first.dims[d] * space.stride[a][d];
  for_pieces(first, body);
  for_pieces(second, body);
}

template <int arrays>
struct Offsets {
  int64_t of[arrays];
};

// Where the element at a row-major position of a Space lies in each of its arrays.
template <int arrays>
struct Walk {
  int rank;
  Divisor dims[max_rank];
  int64_t stride[arrays][max_rank], start[arrays];

  explicit Walk(const Space<arrays>& s) : rank(s.rank) {
    for (int d = 0; d < rank; d++) dims[d] = Divisor(s.dims[d]);
    for (int a = 0; a < arrays; a++) {
      for (int d = 0; d < max_rank; d++) stride[a][d] = s.stride[a][d];
      start[a] = s.start[a];
    }
  }

  __device__ __forceinline__ Offsets<arrays> at(uint32_t position) const {
    Offsets<arrays> offsets;
    for (int a = 0; a < arrays; a++) offsets.of[a] = start[a];
    for (int d = rank - 1; d > 0; d--) {
      const uint32_t outer = dims[d].divide(position), i = position - outer * dims[d].value;
      for (int a = 0; a < arrays; a++) offsets.of[a] += i * stride[a][d];
      position = outer;
    }
    for (int a = 0; a < arrays; a++) offsets.of[a] += position * stride[a][0];
    return offsets;
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
