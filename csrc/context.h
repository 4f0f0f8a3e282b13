// What every kernel gets first: where to run. On the CPU, a pool of threads that takes numbered blocks.
#pragma once
#include <cstdint>

namespace fastnn {

struct Context {
  // Calls body(state, block, worker) once for each block in [0, blocks), from any worker in [0, workers), in any order.
  // Which worker runs a block is luck: results must depend on the block's number only; `worker` picks scratch.
  void (*run)(const Context&, int64_t blocks, void (*body)(void* state, int64_t block, int worker), void* state);
  int workers;
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
