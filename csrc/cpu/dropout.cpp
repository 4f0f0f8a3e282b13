// Dropout masks and raw random bits: Philox on several blocks at once, so that drawing costs less than reading memory.
#include "../random.h"

#include "elements.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int words_at_once = 4 * WIDE_LANES;

INLINE wide all(uint64_t a) { return a - wide{}; }

// The words of blocks first_block ... first_block + WIDE_LANES - 1 in order; random.h's philox with one block per 64-bit lane.
// Only the low half of a lane counts, the multiplication ignores what the upper half gathers.
INLINE void philox_blocks(uint64_t seed, uint64_t first_block, uint64_t draw, uint32_t purpose, uint32_t* words) {
  const wide low_half = all(0xffffffff);
  wide index;  // even lanes hold the first half of the blocks, odd lanes the second: even_pairs and odd_pairs leave them in order
  for (int lane = 0; lane < WIDE_LANES; lane++) index[lane] = first_block + uint64_t(lane / 2 + lane % 2 * (WIDE_LANES / 2));
  wide c0 = index, c1 = index >> 32, c2 = all(draw), c3 = all((draw >> 32 & 0xffff) | purpose << 16);
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const wide p0 = multiply_low(c0, all(0xD2511F53u)), p1 = multiply_low(c2, all(0xCD9E8D57u));
    c0 = (p1 >> 32) ^ c1 ^ all(k0);
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ all(k1);
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const wide first_pair = (c0 & low_half) | c1 << 32, second_pair = (c2 & low_half) | c3 << 32;
  const wide ordered[2] = {even_pairs(first_pair, second_pair), odd_pairs(first_pair, second_pair)};
  __builtin_memcpy(words, ordered, sizeof ordered);
}

// use(begin, count, words): words[j] belongs to element begin + j of [0, n), whose number in the stream is first + begin + j
template <class F>
INLINE void for_words(const Context& context, int64_t n, int64_t first, const int64_t* state, int64_t draw, uint32_t purpose, const F& use) {
  constexpr int64_t buffered = 64 * words_at_once;
  const uint64_t seed = uint64_t(state[0]), position = uint64_t(state[1] + draw);
  for_blocks(context, n, [=](int64_t begin, int64_t end) {
    uint32_t words[buffered];
    while (begin < end) {
      const int64_t skip = (first + begin) % 4, count = smaller(end - begin, buffered - 4);
      const int64_t block = (first + begin) / 4, blocks = divide_up(skip + count, 4);
      for (int64_t b = 0; b < blocks; b += WIDE_LANES) philox_blocks(seed, uint64_t(block + b), position, purpose, words + 4 * b);
      use(begin, count, words + skip);
      begin += count;
    }
  });
}

}  // namespace

void dropout(const Context& context, const Dropout& s, const T* x, const i64* state, T* y) {
  const T scale = T(s.scale);
  const uint32_t last_dropped = uint32_t(s.threshold - 1), keep_all = s.threshold == 0 ? ~0u : 0u;
  for_words(context, s.n, s.offset, state, s.draw, purpose_net, [=](int64_t begin, int64_t count, const uint32_t* words) {
    const T* __restrict from = x + begin;
    T* __restrict to = y + begin;
    for (int64_t j = 0; j < count; j++) {
      const T kept = from[j] * scale;
      to[j] = (words[j] > last_dropped) | keep_all ? kept : T(0);
    }
  });
}

void random_bits(const Context& context, const Random& s, const i64* state, i64* bits) {
  for_words(context, s.n, 0, state, s.draw, uint32_t(s.purpose), [=](int64_t begin, int64_t count, const uint32_t* words) {
    for (int64_t j = 0; j < count; j++) bits[begin + j] = words[j];
  });
}

}  // namespace fastnn::FASTNN_TABLE
