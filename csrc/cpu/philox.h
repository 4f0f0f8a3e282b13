// Philox on several blocks at once, so that drawing costs less than reading memory.
#pragma once
#include "../random.h"

#include "elements.h"
#include "lanes.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int groups = vector_bytes == 64 ? 6 : 3;  // of WIDE_LANES blocks, worked on side by side: what the registers hold
constexpr int blocks_at_once = groups * WIDE_LANES;
constexpr int64_t buffered = 16 * 4 * blocks_at_once;  // words that wait on the stack
constexpr int64_t drawn_per_block = 8192;  // a fraction of elements_per_block: drawing a word costs as much as some passes over memory

INLINE wide all(uint64_t a) { return a - wide{}; }

// The words of `blocks_at_once` blocks from first_block on, in order; random.h's philox with one block per 64-bit lane.
// Only the low half of a lane counts, the multiplication ignores what the upper half gathers.
INLINE void philox_blocks(uint64_t seed, uint64_t first_block, uint64_t draw, uint32_t purpose, uint32_t* words) {
  wide c0[groups], c1[groups], c2[groups], c3[groups];
  wide lanes;  // even lanes hold the first half of a group's blocks, odd lanes the second: even_pairs and odd_pairs leave them in order
  for (int lane = 0; lane < WIDE_LANES; lane++) lanes[lane] = uint64_t(lane / 2 + lane % 2 * (WIDE_LANES / 2));
  UNROLL for (int g = 0; g < groups; g++) {
    c0[g] = lanes + all(first_block + uint64_t(g * WIDE_LANES));
    c1[g] = c0[g] >> 32, c2[g] = all(draw), c3[g] = all((draw >> 32 & 0xffff) | purpose << 16);
  }
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  UNROLL for (int round = 0; round < 10; round++) {
    UNROLL for (int g = 0; g < groups; g++) {
      const wide p0 = multiply_low(c0[g], all(0xD2511F53u)), p1 = multiply_low(c2[g], all(0xCD9E8D57u));
      c0[g] = (p1 >> 32) ^ c1[g] ^ all(k0);
      c1[g] = p1;
      c2[g] = (p0 >> 32) ^ c3[g] ^ all(k1);
      c3[g] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const wide low_half = all(0xffffffff);
  UNROLL for (int g = 0; g < groups; g++) {
    const wide first_pair = (c0[g] & low_half) | c1[g] << 32, second_pair = (c2[g] & low_half) | c3[g] << 32;
    const wide ordered[2] = {even_pairs(first_pair, second_pair), odd_pairs(first_pair, second_pair)};
    __builtin_memcpy(words + 4 * g * WIDE_LANES, ordered, sizeof ordered);
  }
}

// use(begin, count, words): words[j] belongs to element begin + j of [0, n), whose number in the stream is first + begin + j
template <class F>
INLINE void for_words(const Context& context, int64_t n, int64_t first, const int64_t* state, int64_t draw, uint32_t purpose,
                      const F& use) {
  const uint64_t seed = uint64_t(state[0]), position = uint64_t(state[1] + draw);
  parallel(context, divide_up(n, drawn_per_block), [=](int64_t block_of_n, int) {
    int64_t begin = block_of_n * drawn_per_block;
    const int64_t end = smaller(begin + drawn_per_block, n);
    uint32_t words[buffered + N_LANES];  // a vector may be read from the last one on
    while (begin < end) {
      const int64_t skip = (first + begin) % 4, count = smaller(end - begin, buffered - skip);
      const int64_t block = (first + begin) / 4, blocks = divide_up(skip + count, 4);
      for (int64_t b = 0; b < blocks; b += blocks_at_once) philox_blocks(seed, uint64_t(block + b), position, purpose, words + 4 * b);
      use(begin, count, words + skip);
      begin += count;
    }
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
