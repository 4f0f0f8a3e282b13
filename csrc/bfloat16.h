// bfloat16: the upper half of a float32. Storage only; arithmetic happens in float32. Shared by CPU and CUDA.
#pragma once
#include <cstdint>

#include "shared.h"

namespace fastnn {

struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  FASTNN_SHARED explicit bfloat16(float value) {  // to nearest, ties to even; NaN stays NaN
    uint32_t u;
    __builtin_memcpy(&u, &value, sizeof u);
    bits = uint16_t((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  FASTNN_SHARED operator float() const {
    const uint32_t u = uint32_t(bits) << 16;
    float value;
    __builtin_memcpy(&value, &u, sizeof value);
    return value;
  }
};

}  // namespace fastnn
