// Counts through dimensions in row-major order and keeps the element offset in several strided arrays.
#pragma once
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int arrays>
class Walk {
 public:
  int64_t offset[arrays];

  INLINE Walk(int rank, const int64_t* dims, const int64_t* const (&strides)[arrays], int64_t position) : rank_(rank), dims_(dims) {
    for (int a = 0; a < arrays; a++) strides_[a] = strides[a], offset[a] = 0;
    for (int d = rank - 1; d >= 0; d--) {
      index_[d] = position % dims[d], position /= dims[d];
      for (int a = 0; a < arrays; a++) offset[a] += index_[d] * strides[a][d];
    }
  }

  INLINE void next() {
    for (int d = rank_ - 1; d >= 0; d--) {
      for (int a = 0; a < arrays; a++) offset[a] += strides_[a][d];
      if (++index_[d] < dims_[d]) return;
      index_[d] = 0;
      for (int a = 0; a < arrays; a++) offset[a] -= dims_[d] * strides_[a][d];
    }
  }

 private:
  int rank_;
  const int64_t* dims_;
  const int64_t* strides_[arrays];
  int64_t index_[max_rank];
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
