// The inline assembly of all kernels, each instruction with a plain twin that g++ compiles. The twins follow the PTX ISA's fragment
// layouts lane by lane, so that a kernel which loads its fragments wrongly is wrong on the CPU too.
// In the layouts a lane is (g, t) = (lane / 4, lane % 4).
#pragma once
#include "launch.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// --- TF32

// A float32 as a TF32: 8 bits of exponent, 10 of mantissa, to nearest, ties away from zero. The products ignore the lower 13 bits.
__device__ __forceinline__ uint32_t to_tf32(float value) {
#if defined(__CUDACC__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits & 0xffffe000;  // what it leaves below is not specified
#else
  const uint32_t bits = bits_of(value);
  return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000;
#endif
}

// --- copies from global to shared memory that the thread does not wait for

#if defined(__CUDACC__)
__device__ __forceinline__ uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }
#endif

// `bytes` (4 or 16, both addresses multiples of it) from global to shared memory; zeros where !inside, and then nothing is read.
template <int bytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
#if defined(__CUDACC__)
  const int read = inside ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(read) : "memory");
  }
#else
  cuda_on_cpu::copy_async(to, from, bytes, inside ? bytes : 0);
#endif
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void commit_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  cuda_on_cpu::copy_async_commit();
#endif
}

// Waits until at most `groups` of this thread's groups, the youngest, are under way. Others see the copies after the next barrier.
template <int groups>
__device__ __forceinline__ void wait_for_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#else
  cuda_on_cpu::copy_async_wait(groups);
#endif
}

// --- fragments of warps

// Four matrices of 8 rows of 16 bytes; lane l brings the address of row l % 8 of matrix l / 8. Lane (g, t) gets, of each matrix, the word
// t of row g; transposed (elements of 2 bytes), the elements g of the rows 2t and 2t + 1.
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&word)[4], const void* row) {
#if defined(__CUDACC__)
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
#else
  struct Lane {
    const void* row;
    uint32_t word[4];
  } mine = {row, {}};
  cuda_on_cpu::collective(full_warp, mine, [](Lane* const* lanes) {
    for (int lane = 0; lane < warp_size; lane++)
      for (int matrix = 0; matrix < 4; matrix++) {
        const int g = lane / 4, t = lane % 4;
        uint16_t half[2];
        for (int i = 0; i < 2; i++) {
          const int from = transposed ? 2 * t + i : g, element = transposed ? g : 2 * t + i;
          __builtin_memcpy(&half[i], static_cast<const char*>(lanes[8 * matrix + from]->row) + 2 * element, 2);
        }
        lanes[lane]->word[matrix] = half[0] | uint32_t(half[1]) << 16;
      }
  });
  for (int i = 0; i < 4; i++) word[i] = mine.word[i];
#endif
}

#if !defined(__CUDACC__)
// a + b as tensor cores add: towards zero
inline float add_truncated(float a, float b) {
  const double exact = double(a) + double(b);
  const float nearest = float(exact);
  const bool beyond = nearest > 0 ? double(nearest) > exact : double(nearest) < exact;
  return beyond && nearest - nearest == 0 ? float_of(bits_of(nearest) - 1) : nearest;
}

// c += a b for a warp: c 16 x 8, a 16 x depth, b depth x 8. Words of a: rows g, g + 8 in turn, then the second half of the depth; of b: the
// halves of the depth, column g; within a half, word t. c: (g, 2t), (g, 2t + 1), then row g + 8. element(word, i): the i-th of a word.
template <int depth, class Element>
void mma_twin(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Element element) {
  struct Lane {
    float c[4];
    uint32_t a[4], b[2];
  } mine;
  __builtin_memcpy(mine.c, c, sizeof c), __builtin_memcpy(mine.a, a, sizeof a), __builtin_memcpy(mine.b, b, sizeof b);
  cuda_on_cpu::collective(full_warp, mine, [element](Lane* const* lanes) {
    constexpr int per_word = depth / 8;
    float left[16][depth], right[depth][8];
    for (int lane = 0; lane < warp_size; lane++)
      for (int half = 0; half < 2; half++)
        for (int i = 0; i < per_word; i++) {
          const int g = lane / 4, k = half * depth / 2 + lane % 4 * per_word + i;
          left[g][k] = element(lanes[lane]->a[2 * half], i), left[g + 8][k] = element(lanes[lane]->a[2 * half + 1], i);
          right[k][g] = element(lanes[lane]->b[half], i);
        }
    for (int lane = 0; lane < warp_size; lane++)
      for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = 0;
        for (int k = 0; k < depth; k++) sum += left[row][k] * right[k][column];
        lanes[lane]->c[i] = add_truncated(lanes[lane]->c[i], sum);
      }
  });
  __builtin_memcpy(c, mine.c, sizeof c);
}
#endif

// c += a b with TF32 operands, 16 x 8 x 8
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_twin<8>(c, a, b, [](uint32_t word, int) { return float_of(word & 0xffffe000); });
#endif
}

// c += a b with bfloat16 operands, 16 x 8 x 16
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDACC__)
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_twin<16>(c, a, b, [](uint32_t word, int i) { return float_of(i ? word & 0xffff0000 : word << 16); });
#endif
}

// --- products of warpgroups: Hopper's, which read both operands from shared memory and run by themselves

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTNN_GROUP_PRODUCTS 1
#endif

// An operand in shared memory: lines of 128 bytes from a place on, swizzled in themselves; 8 of them are 1 KiB, and where lines hold 64
// rows, the next 64 rows are 64 lines on. Its elements have 2 bytes.
#if defined(__CUDACC__)
struct GroupOperand {
  uint64_t descriptor;
  __device__ __forceinline__ explicit GroupOperand(const void* p) {
    constexpr uint64_t swizzled_128 = 1, eight_lines = 1024, next_rows = 64 * 128;
    descriptor = swizzled_128 << 62 | (eight_lines >> 4) << 32 | (next_rows >> 4) << 16 | (shared_address(p) & 0x3ffff) >> 4;
  }
  __device__ __forceinline__ GroupOperand operator+(int elements) const {
    GroupOperand further = *this;
    further.descriptor += unsigned(elements) * 2 / 16;
    return further;
  }
};
#else
struct GroupOperand {
  const bfloat16* place;
  explicit GroupOperand(const void* p) : place(static_cast<const bfloat16*>(p)) {}
  GroupOperand operator+(int elements) const { return GroupOperand(place + elements); }
};
// Element (row, k) of such an operand: its bytes' bits 4 to 6 are exchanged by bits 7 to 9 of their address.
template <bool along_depth>
float group_element(const bfloat16* p, int row, int k) {
  const int line = along_depth ? row : k, within = along_depth ? k : row % 64;
  const uintptr_t plain = reinterpret_cast<uintptr_t>(p) + uintptr_t((along_depth ? 0 : row / 64 * 64 * 128) + line * 128 + within * 2);
  return float(*reinterpret_cast<const bfloat16*>(plain ^ (plain >> 7 & 7) << 4));
}
#endif

// Writes of this thread to shared memory are there for products that are begun behind the next barrier.
__device__ __forceinline__ void show_to_group_products() {
#if defined(FASTNN_GROUP_PRODUCTS)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void begin_group_products() {
#if defined(FASTNN_GROUP_PRODUCTS)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// Ends a group of this warpgroup's products.
__device__ __forceinline__ void commit_group_products() {
#if defined(FASTNN_GROUP_PRODUCTS)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Waits until at most `groups` of them, the youngest, are under way.
template <int groups>
__device__ __forceinline__ void wait_for_group_products() {
#if defined(FASTNN_GROUP_PRODUCTS)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
#endif
}

// A point at which the sums are where the compiler thinks they are: before the first product, and behind the wait for the last
template <int eights>
__device__ __forceinline__ void settle_sums([[maybe_unused]] float (&sum)[eights][4]) {
#if defined(FASTNN_GROUP_PRODUCTS)
  UNROLL for (int j = 0; j < eights; j++) asm volatile("" : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])::"memory");
#endif
}

// c += a b for a warpgroup: c 64 x 8 eights, a 64 x 16, b 16 x 8 eights. Warp w has rows 16 w and on; lane (g, t) of it, of each eight
// columns, (g, 2t), (g, 2t + 1), then row g + 8.
#define SUMS(j) "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
template <bool a_along, bool b_along, int eights>
__device__ __forceinline__ void multiply_group(float (&sum)[eights][4], const GroupOperand& a, const GroupOperand& b) {
#if defined(FASTNN_GROUP_PRODUCTS)
  static_assert(eights == 8 || eights == 16);
  if constexpr (eights == 8) {
    asm volatile(
        "{ .reg .pred more; setp.ne.b32 more, 1, 0; "
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
        "}, %32, %33, more, 1, 1, %34, %35; }"
        : SUMS(0), SUMS(1), SUMS(2), SUMS(3), SUMS(4), SUMS(5), SUMS(6), SUMS(7)
        : "l"(a.descriptor), "l"(b.descriptor), "n"(!a_along), "n"(!b_along)
        : "memory");
  } else {
    asm volatile(
        "{ .reg .pred more; setp.ne.b32 more, 1, 0; "
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, %64, %65, more, 1, 1, %66, %67; }"
        : SUMS(0), SUMS(1), SUMS(2), SUMS(3), SUMS(4), SUMS(5), SUMS(6), SUMS(7), SUMS(8), SUMS(9), SUMS(10), SUMS(11), SUMS(12), SUMS(13),
          SUMS(14), SUMS(15)
        : "l"(a.descriptor), "l"(b.descriptor), "n"(!a_along), "n"(!b_along)
        : "memory");
  }
#elif !defined(__CUDACC__)
  cuda_on_cpu::note_group_product();
  const int lane = int(threadIdx.x) % warp_size, first = int(threadIdx.x) % group_size / warp_size * 16 + lane / 4;
  float left[2][16];
  for (int i = 0; i < 32; i++) left[i / 16][i % 16] = group_element<a_along>(a.place, first + i / 16 * 8, i % 16);
  for (int j = 0; j < eights; j++)
    for (int c = 0; c < 2; c++) {
      float added[2] = {};
      for (int k = 0; k < 16; k++) {
        const float right = group_element<b_along>(b.place, 8 * j + lane % 4 * 2 + c, k);
        for (int half = 0; half < 2; half++) added[half] += left[half][k] * right;
      }
      for (int half = 0; half < 2; half++) sum[j][2 * half + c] = add_truncated(sum[j][2 * half + c], added[half]);
    }
#endif
}
#undef SUMS

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
