// float32 to bfloat16 and back, as integers: the same in every table.
#include "elements.h"

namespace fastnn::FASTNN_TABLE {

void to_bfloat16(const Context& context, const Elements& s, const f32* x, bf16* y) {
  for_blocks(context, s.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = bf16(x[i]);
  });
}

void to_float32(const Context& context, const Elements& s, const bf16* x, f32* y) {
  for_blocks(context, s.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = x[i];
  });
}

}  // namespace fastnn::FASTNN_TABLE
