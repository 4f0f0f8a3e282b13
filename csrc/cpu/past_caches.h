// Results that are larger than the caches are written past them: their lines are not read before they are overwritten as a whole, a third
// of what ReLU moves otherwise. Smaller ones go through the caches, where the next kernel finds them.
#pragma once
#include "elements.h"

namespace fastnn::FASTNN_TABLE {

// The addresses are multiples of what is written.
#if defined(__AVX512F__)
INLINE void store_past(real* p, vec a) { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), __m512i(a)); }
#elif defined(__AVX2__)
INLINE void store_past(real* p, vec a) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), __m256i(a)); }
#elif defined(__SSE2__)
INLINE void store_past(real* p, vec a) { _mm_stream_si128(reinterpret_cast<__m128i*>(p), __m128i(a)); }
#else
INLINE void store_past(real* p, vec a) { store(p, a); }
#endif
#if defined(FASTNN_NARROW_STORAGE)
INLINE void store_past(storage* p, vec a) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrowed(a)); }
#endif

template <class P>
INLINE void store(bool past, P* p, vec a) {
  past ? store_past(p, a) : store(p, a);
}

// step(i, load, store) as in for_vectors, where all that is stored are results: whole vectors of them past the caches where `past`
template <class F>
INLINE void for_vectors(int64_t begin, int64_t end, bool past, const F& step) {
  int64_t i = begin;
  for (; i + N_LANES <= end; i += N_LANES) step(i, [](const auto* p) { return load(p); }, [past](auto* p, vec a) { store(past, p, a); });
  if (const int n = int(end - i)) step(i, [n](const auto* p) { return load_n(p, n); }, [n](auto* p, vec a) { store_n(p, n, a); });
}

namespace {

// Whether `bytes` of results at y, rows of `width` elements, are written past the caches; a width of whole vectors keeps rows aligned.
INLINE bool goes_past(const Context& context, const void* y, int64_t bytes, int64_t width = N_LANES) {
  const bool past = bytes >= context.past_caches_from && reinterpret_cast<uintptr_t>(y) % vector_bytes == 0 && width % N_LANES == 0;
  if (past && context.went_past) *context.went_past = true;
  return past;
}

// Before others are told that results are there
INLINE void finish(bool past) {
#if defined(__SSE2__)
  if (past) _mm_sfence();
#else
  (void)past;
#endif
}

// The same over all elements of y, as in for_elements
template <class Y, class F>
INLINE void for_results(const Context& context, int64_t n, Y* y, const F& step) {
  const bool past = goes_past(context, y, n * int64_t(sizeof(Y)));
  for_blocks(context, n, [=](int64_t begin, int64_t end) {
    for_vectors(begin, end, past, step);
    finish(past);
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
