// Numbers of lanes as a pack, for shuffles, and the sum of a vector's lanes.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {

template <int... I>
struct Lanes {};
template <int count, int... I>
struct LanesUpTo : LanesUpTo<count - 1, count - 1, I...> {};
template <int... I>
struct LanesUpTo<0, I...> {
  using type = Lanes<I...>;
};

// a with lanes [half, 2 half) in front
template <int half, int... I>
INLINE vec upper_half(vec a, Lanes<I...>) {
  return __builtin_shufflevector(a, a, (I + half) % N_LANES...);
}

// Always in the same order: halves are added until one lane is left.
template <int half = N_LANES / 2>
INLINE real sum_lanes(vec a) {
  if constexpr (half > 0) return sum_lanes<half / 2>(a + upper_half<half>(a, typename LanesUpTo<N_LANES>::type{}));
  return a[0];
}

}  // namespace fastnn::FASTNN_TABLE
