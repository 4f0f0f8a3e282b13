// Memory that will be needed soon, asked for a little at a time while the processor multiplies. The tensors of a training step have left
// the L2 cache when a layer reads them, and a block's reads, a few lines here and there, are no stream that the processor foresees.
#pragma once
#include "../scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

class Ahead {
 public:
  Ahead() = default;  // nothing
  // `size` elements from `begin` on, in so many steps
  INLINE Ahead(const storage* begin, int64_t size, int64_t steps)
      : at_(reinterpret_cast<const char*>(begin)),
        end_(reinterpret_cast<const char*>(begin + size)),
        step_(divide_up(size * int64_t(sizeof(storage)), larger(1, steps) * line) * line) {}
  // The share of block `block` of `blocks` in a map of `size` elements
  INLINE static Ahead of_block(const storage* map, int64_t size, int64_t block, int64_t blocks, int64_t steps) {
    if (!map) return Ahead();
    const int64_t begin = size * smaller(block, blocks) / blocks;
    return Ahead(map + begin, size * smaller(block + 1, blocks) / blocks - begin, steps);
  }
  INLINE void step() {
    const char* const stop = end_ - at_ > step_ ? at_ + step_ : end_;
    for (; at_ < stop; at_ += line) __builtin_prefetch(at_, 0, 2);  // into the L2 cache
  }

 private:
  static constexpr int64_t line = 64;
  const char *at_ = nullptr, *end_ = nullptr;
  int64_t step_ = 0;
};

// What a block of a convolution asks for: the next one's input, and either its second input or the lines of the own output, which are read
// before they are written, and what is added to them.
struct Surroundings {
  Ahead input = {}, other = {}, residual = {};
  INLINE void step() { input.step(), other.step(), residual.step(); }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
