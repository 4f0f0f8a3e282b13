// Work over dense arrays, element by element, in blocks of a fixed number of elements.
#pragma once
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t elements_per_block = 32768;  // 128 KiB of float32: long beside handing out a block, short beside a tensor

// body(begin, end) for each block of [0, n)
template <class F>
INLINE void for_blocks(const Context& context, int64_t n, const F& body) {
  parallel(context, divide_up(n, elements_per_block), [&](int64_t block, int) {
    const int64_t begin = block * elements_per_block;
    body(begin, smaller(begin + elements_per_block, n));
  });
}

// step(i, load, store) as in for_vectors, over all of [0, n)
template <class F>
INLINE void for_elements(const Context& context, int64_t n, const F& step) {
  for_blocks(context, n, [&](int64_t begin, int64_t end) { for_vectors(begin, end, step); });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
