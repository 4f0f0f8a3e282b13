// Of scratch, the part that each worker has to itself. It lies in the thread's own memory (threads.h) where it fits: there the lines of one
// kernel are those of the next, in the caches of the core that wrote them, while scratch is wherever no array lies at that moment, and was
// perhaps last written by another core.
#pragma once
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

template <class E>
class Own {
 public:
  Own() = default;
  // `count` elements for each worker
  Own(const Context& context, Scratch& scratch, int64_t count)
      : fits_((count * int64_t(sizeof(E)) + 127) / 64 * 64 <= context.own_bytes), size_((count * int64_t(sizeof(E)) + 127) / 64 * 64) {
    if (!fits_) base_ = scratch.take<char>(size_ * context.workers);
  }
  INLINE E* of(const Context& context, int worker) const { return reinterpret_cast<E*>(fits_ ? context.own() : base_ + worker * size_); }

 private:
  bool fits_ = false;
  int64_t size_ = 0;
  char* base_ = nullptr;
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
