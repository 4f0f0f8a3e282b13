#include "peak.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "isa.h"
#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastnn {
namespace {

// Sums of a[i] = a[i] b + c in registers, as many as two units of 4 cycles need and more. `b` could be anything to the compiler: the loop
// stays. One function per width: this file is compiled for every processor.
#define MULTIPLY_ADD(vector, accumulators, set, fma, constraint)                                \
  vector a[accumulators], b = set(1.0f), c = set(1e-9f);                                        \
  _Pragma("GCC unroll 24") for (int i = 0; i < accumulators; i++) a[i] = set(1e-3f * float(i)); \
  for (int64_t k = 0; k < rounds; k++) {                                                        \
    asm volatile("" : constraint(b));                                                           \
    _Pragma("GCC unroll 24") for (int i = 0; i < accumulators; i++) a[i] = fma(a[i], b, c);     \
  }                                                                                             \
  for (int i = 0; i < accumulators; i++) asm volatile("" ::"m"(a[i]));

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void loop_avx512(int64_t rounds) { MULTIPLY_ADD(__m512, 24, _mm512_set1_ps, _mm512_fmadd_ps, "+v") }
__attribute__((target("avx2,fma"))) void loop_avx2(int64_t rounds) { MULTIPLY_ADD(__m256, 12, _mm256_set1_ps, _mm256_fmadd_ps, "+x") }
#endif

typedef float four __attribute__((vector_size(16)));
four four_of(float x) { return four{x, x, x, x}; }
four multiply_add(four a, four b, four c) { return a * b + c; }
void loop_portable(int64_t rounds) { MULTIPLY_ADD(four, 12, four_of, multiply_add, "+m") }

struct Loop {
  void (*run)(int64_t rounds);
  int operations;  // of one round
};

Loop loop_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa.rfind("avx512", 0) == 0 || isa == "amx") return {loop_avx512, 2 * 24 * 16};
  if (isa == "avx2") return {loop_avx2, 2 * 12 * 8};
#endif
  return {loop_portable, 2 * 12 * 4};
}

template <class F>
double seconds(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double gflops(const Context& context) {
  const Loop loop = loop_of(isa::name());
  const int64_t blocks = 8 * context.workers;
  int64_t rounds = 1000;
  const auto run = [&] { parallel(context, blocks, [&](int64_t, int) { loop.run(rounds); }); };
  while (seconds(run) < 1e-3) rounds *= 2;
  double least = 1e9;
  for (int i = 0; i < 16; i++) least = std::min(least, seconds(run));
  return double(blocks) * double(rounds) * loop.operations / least / 1e9;
}

void copy_streaming(char* to, const char* from, size_t bytes) {
#if defined(__x86_64__)
  for (size_t i = 0; i < bytes; i += 64)
    for (size_t j = 0; j < 64; j += 16)
      _mm_stream_ps(reinterpret_cast<float*>(to + i + j), _mm_load_ps(reinterpret_cast<const float*>(from + i + j)));
  _mm_sfence();
#else
  std::memcpy(to, from, bytes);
#endif
}

double copy_gbs(const Context& context) {
  constexpr size_t half = size_t{64} << 20, block = size_t{1} << 18;
  const auto unmap = [](void* p) { munmap(p, 2 * half); };
  void* memory = mmap(nullptr, 2 * half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  const std::unique_ptr<void, void (*)(void*)> held(memory, unmap);
  madvise(memory, 2 * half, MADV_HUGEPAGE);
  char *to = static_cast<char*>(memory), *from = to + half;
  const auto each = [&](auto work) { parallel(context, int64_t(half / block), [&](int64_t b, int) { work(size_t(b) * block); }); };
  each([&](size_t at) { std::memset(to + at, 1, block), std::memset(from + at, 2, block); });
  double least = 1e9;
  for (int i = 0; i < 3; i++) {
    least = std::min(least, seconds([&] { each([&](size_t at) { std::memcpy(to + at, from + at, block); }); }));
    least = std::min(least, seconds([&] { each([&](size_t at) { copy_streaming(to + at, from + at, block); }); }));
  }
  return 2 * double(half) / least / 1e9;
}

}  // namespace

Peak measure_peak() {
  const Context context = threads::context();
  return {gflops(context), copy_gbs(context)};
}

}  // namespace fastnn
