// Work over lists of parameters in one launch. Their pointers travel in the launch's own arguments; each block works on one piece of one
// parameter.
#pragma once
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int update_threads = 256;

// As many parameters as fit, with the kernel's other arguments, into 16 KiB (since CUDA 12.1 a launch takes twice that): a ResNet-50's in
// one launch. data[k][i]: array k of parameter i
template <int arrays>
struct Batch {
  static constexpr int most = (16384 - 96) / (arrays * 8 + 12);
  const R* data[arrays][most];
  int64_t size[most];
  int first_block[most];
  int count, blocks;
  bool at_once;  // whether all arrays lie at multiples of 16 bytes
};

// Where a batch begins: its first parameter, and its first piece, in the whole list
struct First {
  int64_t parameter, piece;
};

// run(batch, first) for one batch of parameters after the other. data[k]: the list of array k
template <int arrays, class W, class F>
void for_batches(const List<W>& w, const R* const* const (&data)[arrays], const F& run) {
  static_assert(sizeof(Batch<arrays>) + 64 <= 16384, "a batch and 64 bytes of other arguments");
  First first = {0, 0};
  while (first.parameter < w.count) {
    Batch<arrays> batch;
    batch.blocks = 0, batch.at_once = true;
    const int count = batch.count = int(smaller<int64_t>(Batch<arrays>::most, w.count - first.parameter));
    for (int i = 0; i < count; i++) {
      batch.size[i] = w.size[first.parameter + i];
      batch.first_block[i] = batch.blocks;
      batch.blocks += int(divide_up(batch.size[i], update_piece));
      for (int k = 0; k < arrays; k++) {
        batch.data[k][i] = data[k][first.parameter + i];
        batch.at_once = batch.at_once && is_aligned(batch.data[k][i], 16);
      }
    }
    run(batch, first);
    first.parameter += count, first.piece += batch.blocks;
  }
}

// Elements [begin, end) of a parameter
struct Piece {
  int parameter;
  int64_t begin, end;
};

// Array k of a piece's parameter. Lists that a row only reads are not written.
template <int arrays>
__device__ __forceinline__ R* array_of(const Batch<arrays>& batch, const Piece& piece, int k) {
  return const_cast<R*>(batch.data[k][piece.parameter]);
}

template <int arrays>
__device__ Piece piece_of(const Batch<arrays>& batch, int block) {
  int low = 0, high = batch.count;  // the parameter is the last one that begins with this block or before
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (batch.first_block[middle] <= block ? low : high) = middle;
  }
  const int64_t begin = (block - batch.first_block[low]) * update_piece;
  return {low, begin, smaller(begin + update_piece, batch.size[low])};
}

using Quad = Pack<R, 4>;

// body(element, left) for this thread's share of a piece: four elements at a time, of which `left` are there
template <class F>
__device__ __forceinline__ void for_quads(const Piece& piece, const F& body) {
  for (int64_t i = piece.begin + 4 * int64_t(threadIdx.x); i < piece.end; i += 4 * update_threads) body(i, piece.end - i);
}

// Two sums over a block's threads, right in thread 0.
struct PairOfSums {
  double first, second;
};

struct SumsOfWarps {
  PairOfSums of_warp[update_threads / warp_size];
};

__device__ __forceinline__ PairOfSums block_sums(double first, double second, SumsOfWarps& warps) {
  const PairOfSums own = {warp_sum(first), warp_sum(second)};
  if (is_first_lane()) warps.of_warp[threadIdx.x / warp_size] = own;
  __syncthreads();
  PairOfSums all = {0, 0};
  if (threadIdx.x == 0)
    for (int k = 0; k < update_threads / warp_size; k++) all.first += warps.of_warp[k].first, all.second += warps.of_warp[k].second;
  return all;
}

// {sum (w_new - w)^2, sum w^2} of each piece, or nowhere
struct MovedTarget {
  PairOfSums* pieces;
  int64_t count;
  __device__ __forceinline__ void store(int64_t piece, const PairOfSums& sums) const {
    if (piece < count) pieces[piece] = sums;
  }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
