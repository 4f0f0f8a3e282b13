// What products multiply: an `operand` is a real, or (pairs.h) two bfloat16 that are neighbours along the sum. `together` numbers along the
// sum are one operand, the last one filled up with 0; storage is rounded while it is packed. A float32 may also be taken apart into a few
// bfloat16: a product is then a sum of `terms` products
// of such pieces.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {

// Storage that products read from, or add up in, as it lies; null where it is narrower than what is computed.
constexpr bool narrow = sizeof(storage) < sizeof(real);
INLINE const real* as_real(const real* p) { return p; }
INLINE real* as_real(real* p) { return p; }
INLINE real* as_real(const bfloat16*) { return nullptr; }

enum class Piece { all, low, high, finite_high };  // of a number

#if !defined(FASTNN_PAIRS)

using operand = real;
constexpr int together = 1, terms = 1;
constexpr Piece a_piece[terms] = {Piece::all}, b_piece[terms] = {Piece::all};
constexpr bool on_tiles = false;
#define PRODUCT(algorithm) algorithm

INLINE const operand* as_operand(const storage* p) { return as_real(p); }
INLINE vec multiply(vec a, vec b, vec sum) { return fma(a, b, sum); }
INLINE void raise_flags(vec) {}
INLINE void raise_flags(const real*, int64_t) {}
INLINE vec along(const storage* p, Piece) { return load(p); }
INLINE vec along_n(const storage* p, int n, Piece) { return load_n(p, n); }
INLINE vec across(const storage* p, const storage*, Piece) { return load(p); }
INLINE vec across_n(const storage* p, const storage*, int n, Piece) { return load_n(p, n); }
INLINE int64_t operands_of(int64_t numbers) { return numbers; }

#endif

}  // namespace fastnn::FASTNN_TABLE

#if defined(FASTNN_PAIRS)
#include "pairs.h"
#endif

namespace fastnn::FASTNN_TABLE {
constexpr int plane_numbers = N_LANES * together;  // along the sum in a plane of N_LANES operands
}  // namespace fastnn::FASTNN_TABLE
