// What every kernel gets first: where to run, and how exactly. On the CPU, a pool of threads that takes numbered blocks; on a GPU, a
// stream.
#pragma once
#include <cstdint>

namespace fastnn {

// What a float32 product may be made of; sums are always float32. highest: float32 multiply-adds. high: what keeps nearly all digits
// (3xTF32 on tensor cores). medium: TF32 or bfloat16 operands. A device without such units computes more exactly than asked.
enum class Precision : int { highest, high, medium };

// Weights are packed into scratch by each call; or so that they can stay there (keep); or they do stay, and the call finds its scratch as
// it left it, with the same weights and the same context but for this (kept).
enum class Packing : int { each_call, keep, kept };

struct Context {
  // Calls body(state, block, worker) once for each block in [0, blocks), from any worker in [0, workers), in any order.
  // Which worker runs a block is luck: results must depend on the block's number only; `worker` picks scratch.
  void (*run)(const Context&, int64_t blocks, void (*body)(void* state, int64_t block, int worker), void* state);
  int workers;
  Precision precision = Precision::highest;
  bool winograd = true;  // whether convolutions may take that detour
  Packing packing = Packing::each_call;
  int64_t past_caches_from = int64_t{32} << 20;  // bytes: larger results of passes over memory are written past the caches of the CPU
  bool* went_past = nullptr;                     // set where that is done
  int64_t own_bytes = 0;                         // that each thread has for itself, the same in each kernel,
  char* (*own)() = nullptr;                      // and where: for the thread that runs a block, during that block
  void* stream = nullptr;                        // of a GPU, on which the kernel's launches follow each other
};

// parallel(context, blocks, [&](int64_t block, int worker) { ... })
template <class F>
__attribute__((always_inline)) inline void parallel(const Context& context, int64_t blocks, const F& f) {
  struct Call {
    static void body(void* state, int64_t block, int worker) { (*static_cast<const F*>(state))(block, worker); }
  };
  if (blocks == 1) return f(int64_t{0}, 0);
  if (blocks > 0) context.run(context, blocks, &Call::body, const_cast<F*>(&f));
}

}  // namespace fastnn
