// Scratch memory of a kernel handed out in parts. With a null base it only counts, so plan and run share one layout function.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<char*>(base)) {}

  // `count` elements, 64-byte aligned
  template <class E>
  INLINE E* take(int64_t count) {
    E* part = reinterpret_cast<E*>(base_ ? base_ + used_ : nullptr);
    used_ += (count * int64_t(sizeof(E)) + 63) / 64 * 64;
    return part;
  }
  INLINE int64_t bytes() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
