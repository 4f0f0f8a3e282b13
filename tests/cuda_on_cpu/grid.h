// A grid of CUDA threads on one thread of the host: blocks one after another, the threads of a block as fibers.
#pragma once
#include <cstdint>
#include <functional>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_on_cpu {

struct Grid {
  dim3 size, block_size, block;  // block: the one that runs
};

struct Thread {
  dim3 index;
  unsigned lane;
  const Grid* grid;
};

// The CUDA thread that runs on this thread of the host.
extern __thread Thread* self __attribute__((tls_model("initial-exec")));

struct Place {  // in the source, where threads wait for each other
  const char* what;
  const char* file;
  int line;
};

// --- called by the host

// Runs the kernel to its end. Null, or what went wrong: a sentence that stays valid until this thread's next run.
// Threads and blocks take turns in the order that FASTNN_EMULATED_ORDER names: forward (default), reverse or random.
const char* run_grid(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel);

enum class Order { forward, reverse, random };
void set_order(Order order);  // for the process

// --- called by CUDA threads

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));  // ends the launch

void* shared_memory(int64_t bytes);  // the block's, filled with 0xFF when it starts

void block_barrier(Place place);
void warp_barrier(unsigned mask, Place place);

// Each lane of the mask brings a pointer; the last to arrive calls meet(state, pointers by lane, null for lanes outside the mask); then all
// go on. Orders nothing else: what a lane wrote to memory is not promised to others by this.
void warp_meeting(unsigned mask, void* mine, Place place, void (*meet)(void* state, void** lanes), void* state);

uint64_t exchange(unsigned mask, uint64_t value, unsigned source_lane, Place place);

// cp.async: noted when issued, taken out and done when waited for.
struct Copy {
  void* to;
  const void* from;
  int bytes, valid_bytes;
};
void note_copy(const Copy& copy);
void commit_copies();
bool take_copy(int newest_groups, Copy* copy);  // of a committed group other than the newest; false when there is none

// A thread's part in a product of its warpgroup. How many there were since the library was opened: fastnn_emulated_group_products().
void note_group_product();

}  // namespace cuda_on_cpu
