// What kernel sources see in place of CUDA's header when g++ compiles them. Each CUDA thread runs as a fiber (grid.h), one at a time.
// What is missing is missing on purpose: kernels keep to what is here (float atomics would make results depend on luck, __activemask too).
#pragma once
#include <math.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "grid.h"
#include "host_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ __attribute__((always_inline)) inline
#define __launch_bounds__(...)

#define threadIdx (cuda_on_cpu::self->index)
#define blockIdx (cuda_on_cpu::self->grid->block)
#define blockDim (cuda_on_cpu::self->grid->block_size)
#define gridDim (cuda_on_cpu::self->grid->size)

// Where the caller stands, for messages and to tell one barrier from another.
#define CUDA_ON_CPU_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

// --- barriers

inline void __syncthreads(CUDA_ON_CPU_CALLER) { cuda_on_cpu::block_barrier({"__syncthreads", file, line}); }
inline void __syncwarp(unsigned mask = ~0u, CUDA_ON_CPU_CALLER) { cuda_on_cpu::warp_barrier(mask, {"__syncwarp", file, line}); }
inline void __threadfence() {}  // one thread runs at a time: memory is always in order
inline void __threadfence_block() {}

// --- exchange within a warp

namespace cuda_on_cpu {

// Every lane of the mask brings an E; the last to arrive calls f(E* lanes[32]), null where a lane is not in the mask; then all go on.
// f should touch nothing but what the lanes brought: the race checker does not look at it.
template <class E, class F>
void collective(unsigned mask, E& mine, F f, CUDA_ON_CPU_CALLER) {
  const auto meet = [](void* state, void** brought) {
    E* lanes[32];
    for (int i = 0; i < 32; i++) lanes[i] = static_cast<E*>(brought[i]);
    (*static_cast<F*>(state))(lanes);
  };
  warp_meeting(mask, &mine, {"a collective", file, line}, meet, &f);
}

template <class V>
V shuffle(unsigned mask, V value, int source_lane, Place place) {
  static_assert(std::is_arithmetic<V>::value && sizeof(V) <= 8, "shuffles take numbers");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, unsigned(source_lane), place);
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline int segment_begin(int width) {  // first lane of the caller's segment of `width` lanes
  if (width < 1 || width > 32 || (width & (width - 1))) fail("shuffles with width %d; it must be a power of two up to 32", width);
  return int(self->lane) & ~(width - 1);
}

inline unsigned ballot(unsigned mask, bool predicate, Place place) {
  struct Vote {
    bool yes;
    unsigned all;
  };
  Vote mine{predicate, 0};
  const auto count = [](void*, void** brought) {
    unsigned all = 0;
    for (int i = 0; i < 32; i++)
      if (brought[i] && static_cast<Vote*>(brought[i])->yes) all |= 1u << i;
    for (int i = 0; i < 32; i++)
      if (brought[i]) static_cast<Vote*>(brought[i])->all = all;
  };
  warp_meeting(mask, &mine, place, count, nullptr);
  return mine.all;
}

}  // namespace cuda_on_cpu

template <class V>
V __shfl_sync(unsigned mask, V value, int source, int width = 32, CUDA_ON_CPU_CALLER) {
  return cuda_on_cpu::shuffle(mask, value, cuda_on_cpu::segment_begin(width) + (source & (width - 1)), {"__shfl_sync", file, line});
}
template <class V>
V __shfl_up_sync(unsigned mask, V value, unsigned delta, int width = 32, CUDA_ON_CPU_CALLER) {
  const int lane = int(cuda_on_cpu::self->lane), source = lane - int(delta);
  const bool inside = source >= cuda_on_cpu::segment_begin(width);
  return cuda_on_cpu::shuffle(mask, value, inside ? source : lane, {"__shfl_up_sync", file, line});
}
template <class V>
V __shfl_down_sync(unsigned mask, V value, unsigned delta, int width = 32, CUDA_ON_CPU_CALLER) {
  const int lane = int(cuda_on_cpu::self->lane), source = lane + int(delta);
  const bool inside = source < cuda_on_cpu::segment_begin(width) + width;
  return cuda_on_cpu::shuffle(mask, value, inside ? source : lane, {"__shfl_down_sync", file, line});
}
template <class V>
V __shfl_xor_sync(unsigned mask, V value, int bits, int width = 32, CUDA_ON_CPU_CALLER) {
  const int lane = int(cuda_on_cpu::self->lane), source = lane ^ bits;
  const bool inside = source < cuda_on_cpu::segment_begin(width) + width;
  return cuda_on_cpu::shuffle(mask, value, inside ? source : lane, {"__shfl_xor_sync", file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_CALLER) {
  return cuda_on_cpu::ballot(mask, predicate, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_CALLER) {
  return cuda_on_cpu::ballot(mask, predicate, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_CALLER) {
  return cuda_on_cpu::ballot(mask, predicate, {"__all_sync", file, line}) == mask;
}

// --- atomics, of integers: the order in which they happen cannot be seen in the result

namespace cuda_on_cpu {
template <class V, class F>
V change_atomically(V* at, F f) {
  V before = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(at, &before, f(before), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}
}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_ATOMICS(V)                                                                                \
  inline V atomicAdd(V* at, V value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }              \
  inline V atomicExch(V* at, V value) { return __atomic_exchange_n(at, value, __ATOMIC_RELAXED); }            \
  inline V atomicMax(V* at, V value) {                                                                        \
    return cuda_on_cpu::change_atomically(at, [=](V before) { return before < value ? value : before; });     \
  }                                                                                                           \
  inline V atomicMin(V* at, V value) {                                                                        \
    return cuda_on_cpu::change_atomically(at, [=](V before) { return value < before ? value : before; });     \
  }                                                                                                           \
  inline V atomicCAS(V* at, V expected, V value) {                                                            \
    return cuda_on_cpu::change_atomically(at, [=](V before) { return before == expected ? value : before; }); \
  }
CUDA_ON_CPU_ATOMICS(int)
CUDA_ON_CPU_ATOMICS(unsigned)
CUDA_ON_CPU_ATOMICS(unsigned long long)
#undef CUDA_ON_CPU_ATOMICS

// --- loads, bits, arithmetic

template <class V>
V __ldg(const V* at) {
  return *at;
}

namespace cuda_on_cpu {
template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cuda_on_cpu

inline unsigned __float_as_uint(float x) { return cuda_on_cpu::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return cuda_on_cpu::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return cuda_on_cpu::bits_as<float>(x); }
inline float __int_as_float(int x) { return cuda_on_cpu::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_on_cpu::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_on_cpu::bits_as<double>(x); }

inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

// --- cp.async: what ptx.cuh's copies are here

namespace cuda_on_cpu {

// The first valid_bytes of `bytes` (4, 8 or 16) are copied, the rest becomes zero: when copy_async_wait says so, and not before. Until
// then the destination holds 0xFF.
inline void copy_async(void* shared, const void* global, int bytes, int valid_bytes) {
  note_copy({shared, global, bytes, valid_bytes});
  memset(shared, 0xFF, size_t(bytes));
}
inline void copy_async_commit() { commit_copies(); }
inline void copy_async_wait(int newest_groups) {  // for all of this thread's committed groups but the newest
  Copy copy;
  while (take_copy(newest_groups, &copy)) {
    memcpy(copy.to, copy.from, size_t(copy.valid_bytes));
    memset(static_cast<char*>(copy.to) + copy.valid_bytes, 0, size_t(copy.bytes - copy.valid_bytes));
  }
}

}  // namespace cuda_on_cpu

#undef CUDA_ON_CPU_CALLER
