// First include of every file in cuda/. Kernels are plain C++17 templates: nvcc compiles them for GPUs, and the tests compile the same
// files with g++ against tests/cuda_on_cpu, whose <cuda_runtime.h> runs each CUDA thread as a fiber. So: kernels are started by launch(),
// never by <<<>>>; memory shared by a block is one struct, from shared<S>(); masks of warps are explicit; inline assembly lives in ptx.cuh.
#pragma once
#include <cuda_runtime.h>

#include "../prototypes.h"
#include "../shared.h"

// Before a loop that is to be written out. On the CPU that would gain nothing and take twice the time to compile.
#if defined(__CUDACC__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

namespace fastnn {

// In backend.cu
void note_launch(cudaError_t);  // what the table's caller is told after the kernel returned
bool on_hopper();               // whether this thread's GPU has sm_90a's instructions

namespace FASTNN_TABLE {
namespace {

constexpr int warp_size = 32, group_size = 4 * warp_size;
constexpr unsigned full_warp = 0xffffffffu;

FASTNN_SHARED int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class E>
FASTNN_SHARED E smaller(E a, E b) {
  return a < b ? a : b;
}
template <class E>
FASTNN_SHARED E larger(E a, E b) {
  return a > b ? a : b;
}

// The block's shared memory, seen as the struct S named in launch<S>(). Not initialised.
template <class S>
__device__ __forceinline__ S& shared() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  return *reinterpret_cast<S*>(shared_bytes);
#else
  return *static_cast<S*>(cuda_on_cpu::shared_memory(sizeof(S)));
#endif
}

template <class S>
constexpr int64_t shared_size = sizeof(S);
template <>
constexpr int64_t shared_size<void> = 0;

constexpr int64_t shared_anywhere = 99 * 1024, shared_on_hopper = 227 * 1024;  // what a block may have; the former on sm_86, 89 and 120

// launch<Shared>(context, kernel, grid, threads, arguments...): the kernel on a grid of blocks of `threads` threads, each block with a
// Shared of its own. A grid without blocks is no launch.
template <class Shared = void, int64_t most_shared = shared_anywhere, class... P, class... A>
void launch([[maybe_unused]] const Context& context, void (*kernel)(P...), dim3 grid, int threads, const A&... arguments) {
  static_assert(shared_size<Shared> <= most_shared);
  if (!grid.x || !grid.y || !grid.z) return;
#if defined(__CUDACC__)
  constexpr int64_t without_asking = 48 * 1024;
  if (shared_size < Shared >> without_asking)
    note_launch(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_size<Shared>)));
  kernel<<<grid, threads, shared_size<Shared>, static_cast<cudaStream_t>(context.stream)>>>(P(arguments)...);
  note_launch(cudaGetLastError());
#else
  note_launch(cuda_on_cpu::launch(static_cast<cudaStream_t>(context.stream), grid, dim3(threads), shared_size<Shared>,
                                  [=] { kernel(P(arguments)...); }));
#endif
}

__device__ __forceinline__ uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
__device__ __forceinline__ float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// n neighbours of E that are read and written as one access of n sizeof(E) bytes; the address must be a multiple of that.
template <class E, int n>
struct alignas(sizeof(E) * n) Pack {
  E e[n];
};

constexpr int pack_width = 16 / sizeof(T);

// The pack at p, or the `left` elements that there are of it and zeros behind them
template <int width, class E>
__device__ __forceinline__ Pack<E, width> load_some(const E* p, int64_t left, bool at_once) {
  if (at_once && left >= width) return *reinterpret_cast<const Pack<E, width>*>(p);
  Pack<E, width> pack;
  UNROLL for (int k = 0; k < width; k++) pack.e[k] = k < left ? p[k] : E(0);
  return pack;
}
template <int width, class E>
__device__ __forceinline__ void store_some(E* p, const Pack<E, width>& pack, int64_t left, bool at_once) {
  if (at_once && left >= width) {
    *reinterpret_cast<Pack<E, width>*>(p) = pack;
    return;
  }
  UNROLL for (int k = 0; k < width; k++) {
    if (k < left) p[k] = pack.e[k];
  }
}

inline bool is_aligned(const void* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % uintptr_t(bytes) == 0; }

// Whether packs of `width` may be read and written at once in each of these arrays; absent ones are in nobody's way
template <int width, class... E>
bool lie_in_packs(const E*... p) {
  return (is_aligned(p, width * int64_t(sizeof(E))) && ...);
}

}  // namespace
}  // namespace FASTNN_TABLE
}  // namespace fastnn
