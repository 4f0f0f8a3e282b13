// Squares of N_LANES x N_LANES in registers, transposed.
#pragma once
#include "sum_lanes.h"

namespace fastnn::FASTNN_TABLE {

// Which elements of a and b, one after the other, an instruction of the transpose takes: single ones or pairs by turns within each four of
// them, or whole fours by turns of a and then of b; those of the lower (0) or the upper (1) place.
enum class Take { singles, pairs, fours };
template <Take take, int upper>
constexpr int taken(int i) {
  const int four = i / 4, within = i % 4, half = N_LANES / 8;
  return take == Take::singles ? within % 2 * N_LANES + 4 * four + within / 2 + upper * (N_LANES < 4 ? 1 : 2)
         : take == Take::pairs ? within / 2 * N_LANES + 4 * four + within % 2 + 2 * upper
                               : (four < half ? 8 * four : N_LANES + 8 * (four - half)) + 4 * upper + within;
}
template <Take take, int upper, int... I>
INLINE vec interleave(vec a, vec b, Lanes<I...>) {
  return __builtin_shufflevector(a, b, taken<take, upper>(I)...);
}

// rows[i], rows[i + apart] for each i without that bit become what is taken of both
template <Take take, int apart>
INLINE void interleave_rows(vec (&rows)[N_LANES]) {
  constexpr LanesUpTo<N_LANES>::type lanes{};
  UNROLL for (int i = 0; i < N_LANES; i++) {
    if (i & apart) continue;
    const vec a = rows[i], b = rows[i + apart];
    rows[i] = interleave<take, 0>(a, b, lanes), rows[i + apart] = interleave<take, 1>(a, b, lanes);
  }
}

// Transposes N_LANES x N_LANES: within fours of rows and columns, then fours among each other.
INLINE void transpose(vec (&rows)[N_LANES]) {
  static_assert(N_LANES <= 16, "one more step");
  interleave_rows<Take::singles, 1>(rows);
  if constexpr (N_LANES >= 4) {
    interleave_rows<Take::pairs, 2>(rows);
    UNROLL for (int i = 0; i < N_LANES; i += 4) {  // columns 0, 2, 1, 3
      const vec second = rows[i + 2];
      rows[i + 2] = rows[i + 1], rows[i + 1] = second;
    }
  }
  if constexpr (N_LANES >= 8) interleave_rows<Take::fours, 4>(rows);
  if constexpr (N_LANES >= 16) interleave_rows<Take::fours, 8>(rows);
}

}  // namespace fastnn::FASTNN_TABLE
