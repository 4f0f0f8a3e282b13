// What the machine can do, for kernels to be compared with: multiply-adds in registers, products of bfloat16, and bytes copied, on a number
// of threads. Built for the processor at hand by peak.py. The functions return seconds.
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

// Products of bfloat16, as a kernel can feed them at best. AMX: four sums of 16 x 16 over pairs of tiles that are read out of the L1 cache.
#if defined(__AMX_BF16__)
constexpr const char* bfloat16_needs = "amx";
constexpr int bfloat16_flops = 4 * 16 * 16 * 32 * 2;

void bfloat16_products(long iterations) {
  constexpr int tile_bytes = 1024, pairs = 4;
  struct alignas(64) {
    unsigned char palette = 1, start_row = 0, reserved[14] = {};
    unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  alignas(64) unsigned short operands[pairs * 4 * tile_bytes / 2];
  for (unsigned i = 0; i < sizeof operands / 2; i++) operands[i] = static_cast<unsigned short>(0x3f80 + i * 2654435761u % 128);  // 1 to 2
  asm volatile("ldtilecfg %0" ::"m"(shapes), "r"(operands) : "memory");  // the intrinsic reads eight bytes, says GCC
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long k = 0; k < iterations; k++) {
    const char* const at = reinterpret_cast<const char*>(operands) + k % pairs * 4 * tile_bytes;
    _tile_loadd(4, at, 64);
    _tile_loadd(5, at + tile_bytes, 64);
    _tile_loadd(6, at + 2 * tile_bytes, 64);
    _tile_loadd(7, at + 3 * tile_bytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}
#elif defined(__AVX512BF16__)
constexpr const char* bfloat16_needs = "avx512bf16";
constexpr int bfloat16_flops = 2 * accumulators * 32;

void bfloat16_products(long iterations) {
  __m512 a[accumulators] = {};
  __m512bh b = __m512bh(_mm512_set1_epi32(0x3f803f80)), c = b;
  for (long k = 0; k < iterations; k++) {
    asm volatile("" : "+v"(b));
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; i++) a[i] = _mm512_dpbf16_ps(a[i], b, c);
  }
  for (int i = 0; i < accumulators; i++) asm volatile("" ::"v"(a[i]));
}
#else
constexpr const char* bfloat16_needs = "";
constexpr int bfloat16_flops = 0;
void bfloat16_products(long) {}
#endif

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

// Seconds for threads * iterations * fma_flop() floating-point operations.
double fma_seconds(int threads, long iterations) {
  return together(threads, [&](int) { multiply_add(iterations); });
}

int fma_flop() { return 2 * accumulators * lanes; }  // of an iteration

double bfloat16_seconds(int threads, long iterations) {
  return together(threads, [&](int) { bfloat16_products(iterations); });
}

int bfloat16_flop() { return bfloat16_flops; }

const char* bfloat16_isa() { return bfloat16_needs; }  // as fastnn names it; empty where there is none

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
