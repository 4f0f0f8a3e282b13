// Integer lanes: bytes widened to them and back, for positions within windows; 64-bit products, for random numbers.
#pragma once
#include "simd.h"

namespace fastnn::FASTNN_TABLE {

// N_LANES bytes as integer lanes, and back (the low byte of each lane); with _n the first n only.
#if defined(__AVX512F__)
INLINE ivec load_bytes(const uint8_t* p) {
  return ivec(_mm512_maskz_cvtepu8_epi32(__mmask16(-1), _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
INLINE ivec load_bytes_n(const uint8_t* p, int n) {
  return ivec(_mm512_maskz_cvtepu8_epi32(__mmask16(-1), _mm_maskz_loadu_epi8(first(n), p)));
}
INLINE void store_bytes(uint8_t* p, ivec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(__mmask16(-1), __m512i(a)));
}
INLINE void store_bytes_n(uint8_t* p, int n, ivec a) { _mm512_mask_cvtepi32_storeu_epi8(p, first(n), __m512i(a)); }
#else
INLINE ivec load_bytes_n(const uint8_t* p, int n) {
  ivec a{};
  for (int i = 0; i < n; i++) a[i] = p[i];
  return a;
}
INLINE void store_bytes_n(uint8_t* p, int n, ivec a) {
  for (int i = 0; i < n; i++) p[i] = uint8_t(a[i]);
}
#if defined(__AVX2__)
INLINE ivec load_bytes(const uint8_t* p) { return ivec(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))); }
INLINE void store_bytes(uint8_t* p, ivec a) {
  const __m256i v = __m256i(a);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}
#else
INLINE ivec load_bytes(const uint8_t* p) { return load_bytes_n(p, N_LANES); }
INLINE void store_bytes(uint8_t* p, ivec a) { store_bytes_n(p, N_LANES, a); }
#endif
#endif

// 64-bit lanes for integer work: the full product of the lanes' low halves, and pairs of lanes a0 b0 a2 b2 ... and a1 b1 a3 b3 ...
typedef uint64_t wide __attribute__((vector_size(vector_bytes)));
constexpr int WIDE_LANES = vector_bytes / 8;
#if defined(__AVX512F__)
INLINE wide multiply_low(wide a, wide b) { return wide(_mm512_maskz_mul_epu32(__mmask8(-1), __m512i(a), __m512i(b))); }
INLINE wide even_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
INLINE wide odd_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15); }
#elif defined(__AVX2__)
INLINE wide multiply_low(wide a, wide b) { return wide(_mm256_mul_epu32(__m256i(a), __m256i(b))); }
INLINE wide even_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 4, 2, 6); }
INLINE wide odd_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 5, 3, 7); }
#else
#if defined(__SSE2__)
INLINE wide multiply_low(wide a, wide b) { return wide(_mm_mul_epu32(__m128i(a), __m128i(b))); }
#else
INLINE wide multiply_low(wide a, wide b) { return (a & 0xffffffff) * (b & 0xffffffff); }
#endif
INLINE wide even_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 2); }
INLINE wide odd_pairs(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

}  // namespace fastnn::FASTNN_TABLE
