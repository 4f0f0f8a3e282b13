// Operands of two bfloat16, for instructions that multiply pairs and add both products to a float32 (exact products, rounded sums;
// denormals count as zero). With FASTNN_SPLIT a float32 x is a sum of bfloat16, hi + lo, and a product a b the sum of three:
//   term      0        1        2
//   a         lo       hi       hi
//   b         hi       lo       hi        the small ones first; lo(a) lo(b), at most 2^-16 of the product, is left out
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {

struct operand {
  uint32_t bits;  // the first of the two in the lower half
};
constexpr int together = 2;
#if defined(FASTNN_SPLIT)
constexpr int terms = 3;
constexpr Piece a_piece[terms] = {Piece::low, Piece::finite_high, Piece::high},
                b_piece[terms] = {Piece::finite_high, Piece::low, Piece::high};
#else
constexpr int terms = 1;
constexpr Piece a_piece[terms] = {Piece::all}, b_piece[terms] = {Piece::all};
#endif
#if defined(FASTNN_TILES)
constexpr bool on_tiles = true;
#if defined(FASTNN_SPLIT)
#define PRODUCT(algorithm) "amx_split_" algorithm
#else
#define PRODUCT(algorithm) "amx_" algorithm
#endif
#else
constexpr bool on_tiles = false;
#define PRODUCT(algorithm) "bf16_" algorithm
#endif

typedef uint32_t operand_vector __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
INLINE vec load(const operand* p) { return vec(*reinterpret_cast<const operand_vector*>(p)); }
INLINE void store(operand* p, vec a) { *reinterpret_cast<operand_vector*>(p) = operand_vector(a); }
template <int uses = 2>
INLINE vec broadcast(const operand* p) {
  return broadcast<uses>(reinterpret_cast<const real*>(p));
}
INLINE const operand* as_operand(const storage*) { return nullptr; }  // never as it lies

// sum = (sum + a[1] b[1]) + a[0] b[0]
INLINE vec multiply(vec a, vec b, vec sum) { return vec(_mm512_dpbf16_ps(__m512(sum), __m512bh(a), __m512bh(b))); }

// The processor's flags, which instructions for pairs leave alone, go up where a sum is not finite (or beyond 2^31: a false alarm).
INLINE void raise_flags(vec sum) {
  vec whole;
  asm volatile("vcvtps2dq %1, %0" : "=v"(whole) : "v"(sum));
}
INLINE void raise_flags(const real* sums, int64_t count) {
  for_vectors(0, count, [&](int64_t i, auto load, auto) { raise_flags(load(sums + i)); });
}

// What is not finite is so in the product of the high pieces alone, where float32 has it. The high piece is cut where rounding would give
// infinity.
INLINE vec piece_of(vec x, Piece piece) {
  if (piece == Piece::all) return x;
  const vec cut = vec(ivec(x) & int32_t(0xffff0000)), nearest = widened(narrowed(x));
  const vec high = select(nearest - nearest == zero(), nearest, cut);  // infinity less infinity is NaN
  if (piece == Piece::high) return high;
  return select(x - x == zero(), piece == Piece::low ? x - high : high, zero());
}

// N_LANES numbers rounded to bfloat16; the first n of them, zeros behind
INLINE __m256i rounded(const float* p, Piece piece) { return narrowed(piece_of(load(p), piece)); }
INLINE __m256i rounded_n(const float* p, int n, Piece piece) { return narrowed(piece_of(load_n(p, n), piece)); }
INLINE __m256i rounded(const bfloat16* p, Piece) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
INLINE __m256i rounded_n(const bfloat16* p, int n, Piece) { return _mm256_maskz_loadu_epi16(first(n), p); }

typedef uint16_t halves __attribute__((vector_size(vector_bytes / 2)));
INLINE vec joined(__m256i low, __m256i high) {
  return vec(__builtin_shufflevector(halves(low), halves(high), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                                     21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31));
}
INLINE vec interleaved(__m256i low, __m256i high) {
  return vec(__builtin_shufflevector(halves(low), halves(high), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10,
                                     26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
}

// N_LANES operands of numbers that follow each other along the sum; of the first n numbers (0 <= n <= 2 N_LANES).
INLINE vec along(const storage* p, Piece piece) { return joined(rounded(p, piece), rounded(p + N_LANES, piece)); }
INLINE vec along_n(const storage* p, int n, Piece piece) {
  if (n < N_LANES) return joined(rounded_n(p, n, piece), _mm256_setzero_si256());
  return joined(rounded(p, piece), rounded_n(p + N_LANES, n - N_LANES, piece));
}
// N_LANES operands (p[i], q[i]), or the first n: p and q follow each other along the sum. Null q: zeros.
INLINE vec across(const storage* p, const storage* q, Piece piece) {
  return interleaved(rounded(p, piece), q ? rounded(q, piece) : _mm256_setzero_si256());
}
INLINE vec across_n(const storage* p, const storage* q, int n, Piece piece) {
  return interleaved(rounded_n(p, n, piece), q ? rounded_n(q, n, piece) : _mm256_setzero_si256());
}

// The same of those numbers alone that a bit of `lanes` names, each in its place; written to the operands, or numbers, named.
INLINE __m256i rounded_lanes(const float* p, __mmask16 lanes, Piece piece) {
  return narrowed(piece_of(vec(_mm512_maskz_loadu_ps(lanes, p)), piece));
}
INLINE __m256i rounded_lanes(const bfloat16* p, __mmask16 lanes, Piece) { return _mm256_maskz_loadu_epi16(lanes, p); }
INLINE vec along_lanes(const float* p, uint32_t lanes, Piece piece) {
  return joined(rounded_lanes(p, __mmask16(lanes), piece), rounded_lanes(p + N_LANES, __mmask16(lanes >> 16), piece));
}
INLINE vec along_lanes(const bfloat16* p, uint32_t lanes, Piece) { return vec(_mm512_maskz_loadu_epi16(__mmask32(lanes), p)); }
INLINE vec across_lanes(const storage* p, const storage* q, uint32_t lanes, Piece piece) {
  return interleaved(rounded_lanes(p, __mmask16(lanes), piece), q ? rounded_lanes(q, __mmask16(lanes), piece) : _mm256_setzero_si256());
}
INLINE void store_lanes(operand* p, uint32_t lanes, vec a) { _mm512_mask_storeu_epi32(p, __mmask16(lanes), __m512i(a)); }
INLINE void store_numbers(operand* p, int64_t first, uint32_t numbers, vec a) {
  _mm512_mask_storeu_epi16(reinterpret_cast<uint16_t*>(p) + first, __mmask32(numbers), __m512i(a));
}

// Operands of that many numbers; tiles take whole planes of them.
INLINE int64_t operands_of(int64_t numbers) {
  const int64_t pairs = (numbers + 1) / 2;
  return on_tiles ? (pairs + N_LANES - 1) / N_LANES * N_LANES : pairs;
}

}  // namespace fastnn::FASTNN_TABLE
