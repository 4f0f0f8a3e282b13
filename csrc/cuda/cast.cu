// float32 to bfloat16 and back.
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Cast {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

}  // namespace

void to_bfloat16(const Context& context, const Elements& s, const f32* x, bf16* y) { map_dense(context, s.n, Cast{}, y, x); }
void to_float32(const Context& context, const Elements& s, const bf16* x, f32* y) { map_dense(context, s.n, Cast{}, y, x); }

}  // namespace fastnn::FASTNN_TABLE
