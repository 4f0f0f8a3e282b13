// One vector type `vec` of `real`, N lanes, and the few operations kernels need, for the instruction set being compiled.
// Arithmetic (+ - * /) and comparisons are the compiler's vector extensions; what they lack is written here once per set.
// Loops over arrays use for_vectors, which calls the body on full vectors and then once on a masked tail.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <stdint.h>

#include "../prototypes.h"

namespace fastnn::FASTNN_TABLE {

#define INLINE __attribute__((always_inline)) inline
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

// Steps of a register tile on 256 bits are so short that a jump after each costs a tenth of them.
#if !defined(__AVX2__) || defined(__AVX512F__)
constexpr bool short_steps = false;
#define SHORT_STEPS
#else
constexpr bool short_steps = true;
#if defined(__clang__)
#define SHORT_STEPS _Pragma("clang loop unroll_count(4)")
#else
#define SHORT_STEPS _Pragma("GCC unroll 4")
#endif
#endif

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
constexpr int N_LANES = vector_bytes / int(sizeof(real));  // lanes of a vec

template <class E>
struct IntegerOf;
template <>
struct IntegerOf<float> {
  using type = int32_t;
};
template <>
struct IntegerOf<double> {
  using type = int64_t;
};
using integer = IntegerOf<real>::type;

typedef real vec __attribute__((vector_size(vector_bytes)));
typedef real vec_unaligned __attribute__((vector_size(vector_bytes), aligned(sizeof(real)), may_alias));
typedef integer ivec __attribute__((vector_size(vector_bytes)));  // a comparison of vecs: -1 where true, 0 where false

INLINE vec set(real a) { return a - vec{}; }  // minus, so that -0 stays -0
INLINE vec zero() { return vec{}; }
INLINE vec load(const real* p) { return *reinterpret_cast<const vec_unaligned*>(p); }
INLINE void store(real* p, vec a) { *reinterpret_cast<vec_unaligned*>(p) = a; }

// The first n lanes (0 <= n <= N_LANES); the others read as 0 and are not written, nor touched in memory.
// (A full mask where an intrinsic has a plain form: g++ 12 warns of an uninitialised variable inside the plain one.)
#if defined(__AVX512F__)
INLINE __mmask16 first(int n) { return __mmask16((1u << n) - 1); }
INLINE vec load_n(const real* p, int n) { return vec(_mm512_maskz_loadu_ps(first(n), p)); }
INLINE void store_n(real* p, int n, vec a) { _mm512_mask_storeu_ps(p, first(n), __m512(a)); }
INLINE vec fma(vec a, vec b, vec c) { return vec(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
INLINE vec sqrt(vec a) { return vec(_mm512_maskz_sqrt_ps(__mmask16(-1), __m512(a))); }
#elif defined(__AVX2__)
INLINE __m256i first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE vec load_n(const real* p, int n) { return vec(_mm256_maskload_ps(p, first(n))); }
// Stores behind a mask are dozens of micro-operations on some processors: not where all lanes are written.
INLINE void store_n(real* p, int n, vec a) { n == N_LANES ? store(p, a) : _mm256_maskstore_ps(p, first(n), __m256(a)); }
INLINE vec fma(vec a, vec b, vec c) { return vec(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
INLINE vec sqrt(vec a) { return vec(_mm256_sqrt_ps(__m256(a))); }
#else
INLINE vec load_n(const real* p, int n) {
  vec a{};
  for (int i = 0; i < n; i++) a[i] = p[i];
  return a;
}
INLINE void store_n(real* p, int n, vec a) {
  for (int i = 0; i < n; i++) p[i] = a[i];
}
INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }  // rounds twice: the plainest processors have no fused form
INLINE real square_root(float a) { return real(__builtin_sqrtf(a)); }
INLINE real square_root(double a) { return real(__builtin_sqrt(a)); }
INLINE vec sqrt(vec a) {
  for (int i = 0; i < N_LANES; i++) a[i] = square_root(a[i]);
  return a;
}
#endif

// bfloat16 in memory: widened when read, rounded to nearest (ties to even) when written.
#if defined(__AVX512BF16__)
INLINE vec widened(__m256i narrow) { return vec(ivec(_mm512_maskz_cvtepu16_epi32(__mmask16(-1), narrow)) << 16); }
INLINE __m256i narrowed(vec a) { return __m256i(_mm512_cvtneps_pbh(__m512(a))); }
INLINE vec load(const bfloat16* p) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
INLINE vec load_n(const bfloat16* p, int n) { return widened(_mm256_maskz_loadu_epi16(first(n), p)); }
INLINE void store(bfloat16* p, vec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(a)); }
INLINE void store_n(bfloat16* p, int n, vec a) { _mm256_mask_storeu_epi16(p, first(n), narrowed(a)); }
#endif

// A register that the compiler must not turn into a masked load behind the comparison: such loads run at half the speed of plain ones.
INLINE vec held(vec a) {
#if defined(__AVX512F__)
  asm("" : "+v"(a));
#endif
  return a;
}
INLINE vec select(ivec condition, vec a, vec b) {
  a = held(a), b = held(b);
  return vec((condition & ivec(a)) | (~condition & ivec(b)));
}
// b where unordered, or where both are zeros
#if defined(__AVX512F__)
INLINE vec max(vec a, vec b) { return vec(_mm512_maskz_max_ps(__mmask16(-1), __m512(a), __m512(b))); }
INLINE vec min(vec a, vec b) { return vec(_mm512_maskz_min_ps(__mmask16(-1), __m512(a), __m512(b))); }
#elif defined(__AVX2__)
INLINE vec max(vec a, vec b) { return vec(_mm256_max_ps(__m256(a), __m256(b))); }
INLINE vec min(vec a, vec b) { return vec(_mm256_min_ps(__m256(a), __m256(b))); }
#else
INLINE vec max(vec a, vec b) { return select(a > b, a, b); }
INLINE vec min(vec a, vec b) { return select(a < b, a, b); }
#endif

// A register that the compiler must not fold into each use as a memory operand (that would double the loads of a wide tile); but into a
// single use: 512-bit registers filled as often as they are multiplied ran at three quarters of the multiply-adds' speed on Zen 4.
template <int uses = 2>
INLINE vec broadcast(const real* p) {
#if defined(__AVX2__)
  if constexpr (uses == 1 && vector_bytes == 64) return set(*p);
  vec v;
  asm volatile("vbroadcastss %1, %0" : "=v"(v) : "m"(*p));
  return v;
#else
  return set(*p);
#endif
}

// step(i, load, store) on full vectors of [begin, end), then once on the tail with masked load and store.
template <class F>
INLINE void for_vectors(int64_t begin, int64_t end, F step) {
  int64_t i = begin;
  for (; i + N_LANES <= end; i += N_LANES) step(i, [](const auto* p) { return load(p); }, [](auto* p, vec a) { store(p, a); });
  if (const int n = int(end - i)) step(i, [n](const auto* p) { return load_n(p, n); }, [n](auto* p, vec a) { store_n(p, n, a); });
}

}  // namespace fastnn::FASTNN_TABLE
