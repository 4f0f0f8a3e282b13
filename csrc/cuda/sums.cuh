// Sums in a fixed order: over the lanes of a warp and over the partial results of blocks; and moments, the mean and the squared distances
// from it, which are never taken from a sum of squares.
#pragma once
#include "launch.cuh"

namespace fastnn::FASTNN_TABLE {

// The moments of 32 rows of a column (fewer at the end), as a convolution leaves them: taken while the rows were in shared memory.
struct Section {
  float mean, squares;
};

namespace {

constexpr int section_rows = 32;

// The sum over a warp's lanes, in each of them: a + b = b + a to the bit, so every lane builds the same tree.
template <class E>
__device__ __forceinline__ E warp_sum(E value) {
  for (int step = warp_size / 2; step > 0; step /= 2) value += __shfl_xor_sync(full_warp, value, step);
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
  for (int step = warp_size / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(full_warp, value, step));
  return value;
}

template <int n>
struct Sums {
  double sum[n] = {};
  __device__ __forceinline__ void join(const Sums& more) { UNROLL for (int k = 0; k < n; k++) sum[k] += more.sum[k]; }
};

// Of two sets of numbers joined: Chan, Golub, LeVeque 1979.
template <class E>
struct Moments {
  E count = 0, mean = 0, squares = 0;
  __device__ __forceinline__ void join(const Moments& more) {
    if (more.count == 0) return;
    const E total = count + more.count, share = more.count / total, difference = more.mean - mean;
    mean += difference * share;
    squares += more.squares + difference * difference * (count * share);
    count = total;
  }
};

// Of at(row) for `count` rows. They are moments of the distance from the first one, where float32 is finest.
template <class At>
__device__ __forceinline__ Section section_of(int count, const At& at) {
  constexpr int lines = 4;  // sums side by side: short ones, and none waits for the one before
  const float zero = at(0), per_row = 1 / float(count);
  float x[section_rows], sum[lines] = {}, squares[lines] = {};
  UNROLL for (int i = 0; i < section_rows; i++) {
    x[i] = i < count ? at(i) - zero : 0;
    sum[i % lines] += x[i];
  }
  const float mean = ((sum[0] + sum[1]) + (sum[2] + sum[3])) * per_row;
  UNROLL for (int i = 0; i < section_rows; i++) {
    const float distance = i < count ? x[i] - mean : 0;
    squares[i % lines] = fmaf(distance, distance, squares[i % lines]);
  }
  return {zero + mean, (squares[0] + squares[1]) + (squares[2] + squares[3])};
}

// What a block of rows leaves for the second launch. The mean is a double: beside a large one the differences between blocks are small.
struct MomentsPart {
  double mean;
  float squares;
  int count;
};

// One number made of `count` partial ones, `stride` apart, by a warp: each lane takes every 32nd, then the lanes are joined.
__device__ __forceinline__ double sum_parts(const double* part, int64_t count, int64_t stride) {
  double total = 0;
  for (int64_t k = threadIdx.x % warp_size; k < count; k += warp_size) total += part[k * stride];
  return warp_sum(total);
}

// The same of moments; parts.at(k) are those of part k.
template <class Parts>
__device__ __forceinline__ Moments<double> join_parts(const Parts& parts, int64_t count) {
  Moments<double> all;
  for (int64_t k = threadIdx.x % warp_size; k < count; k += warp_size) all.join(parts.at(k));
  for (int step = warp_size / 2; step > 0; step /= 2) {
    Moments<double> more;
    more.count = __shfl_down_sync(full_warp, all.count, step);
    more.mean = __shfl_down_sync(full_warp, all.mean, step);
    more.squares = __shfl_down_sync(full_warp, all.squares, step);
    all.join(more);
  }
  return all;  // right in lane 0
}

// A kernel in which each warp makes one of `count` numbers: warp w of block b makes number b warps_per_block + w.
constexpr int warps_per_block = 8;
constexpr int warp_job_threads = warps_per_block * warp_size;

inline dim3 warp_job_grid(int64_t count) { return dim3(unsigned(divide_up(count, warps_per_block))); }
__device__ __forceinline__ int64_t number_of_warp() { return int64_t(blockIdx.x) * warps_per_block + threadIdx.x / warp_size; }
__device__ __forceinline__ bool is_first_lane() { return threadIdx.x % warp_size == 0; }

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
