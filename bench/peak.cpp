// What the machine can do, for kernels to be compared with: multiply-adds in registers, and bytes copied, on a number of threads.
// Built for the processor at hand by peak.py. Both functions return seconds.
#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int vector_bytes = 64, accumulators = 24;  // of 32 registers; two FMA units of 4 cycles need 8
#else
constexpr int vector_bytes = 32, accumulators = 12;  // of 16 registers
#endif
constexpr int lanes = vector_bytes / sizeof(float);
typedef float vec __attribute__((vector_size(vector_bytes)));

// work(thread) on all threads at once: seconds from the common start to the last one's end.
template <class Work>
double together(int threads, Work work) {
  std::atomic<int> ready{1};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++)
    others.emplace_back([&, t] {
      ready++;
      while (!go) _mm_pause();
      work(t);
    });
  while (ready < threads) _mm_pause();
  const auto start = std::chrono::steady_clock::now();
  go = true;
  work(0);
  for (std::thread& other : others) other.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void multiply_add(long iterations) {
  vec a[accumulators], b = vec{} + 1.0f, c = vec{} + 1e-9f;
#pragma GCC unroll 24
  for (int i = 0; i < accumulators; i++) a[i] = vec{} + 1e-3f * i;
  for (long k = 0; k < iterations; k++) {
    asm volatile("" : "+v"(b));  // b could be anything: the loop stays
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; i++) a[i] = a[i] * b + c;
  }
  vec sum = a[0];
  for (int i = 1; i < accumulators; i++) sum += a[i];
  volatile float sink = sum[0];
  (void)sink;
}

void store(float* to, vec value, bool streaming) {
  if (!streaming) *reinterpret_cast<vec*>(to) = value;
#ifdef __AVX512F__
  else _mm512_stream_ps(to, __m512(value));
#else
  else _mm256_stream_ps(to, __m256(value));
#endif
}

void copy_range(float* to, const float* from, long begin, long end, bool streaming) {
  for (long i = begin; i < end; i += lanes) store(to + i, *reinterpret_cast<const vec*>(from + i), streaming);
  _mm_sfence();
}

// A buffer that grows, filled once: pages are there, and not all the same.
float* buffer(int which, long floats) {
  static float* data[2];
  static long size[2];
  if (size[which] < floats) {
    std::free(data[which]);
    data[which] = static_cast<float*>(std::aligned_alloc(4096, (size_t(floats) * sizeof(float) + 4095) / 4096 * 4096));
    for (long i = 0; i < floats; i++) data[which][i] = float(i % 8191) * 0.01f;
    size[which] = floats;
  }
  return data[which];
}

}  // namespace

extern "C" {

// Seconds for threads * iterations * flop_per_iteration() floating-point operations.
double fma_seconds(int threads, long iterations) {
  return together(threads, [&](int) { multiply_add(iterations); });
}

int flop_per_iteration() { return 2 * accumulators * lanes; }

// Seconds for `repeats` copies of `floats` numbers (rounded down to whole vectors per thread).
double copy_seconds(int threads, long floats, int repeats, int streaming) {
  const float* from = buffer(0, floats);
  float* to = buffer(1, floats);
  const long part = floats / threads / lanes * lanes;
  return together(threads, [&](int t) {
    for (int r = 0; r < repeats; r++) copy_range(to, from, t * part, (t + 1) * part, streaming != 0);
  });
}
}
