// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011), shared by CPU and CUDA.
// Randomness is a function: key = seed, counter = (index 64 bits, draw 48 bits, purpose 16 bits).
#pragma once
#include <cstdint>

#include "shared.h"

namespace fastnn {

enum Purpose : int64_t {
  purpose_init = 0,
  purpose_net = 1,
  purpose_order = 2,
  purpose_augmentation = 3,
  purpose_mix = 4,
  purpose_search = 5,
  purpose_noise = 6
};

struct Words {
  uint32_t w[4];
};

FASTNN_SHARED Words philox(uint64_t seed, uint64_t index, uint64_t draw, uint32_t purpose) {
  uint32_t c0 = uint32_t(index), c1 = uint32_t(index >> 32), c2 = uint32_t(draw), c3 = uint32_t(draw >> 32 & 0xffff) | purpose << 16;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace fastnn
