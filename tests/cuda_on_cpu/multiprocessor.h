// Runs a grid on one thread of the host, one block at a time. A fiber carries threads from start to end, one after the other, as long as
// they do not wait: a kernel without barriers needs one fiber. Where a thread has to wait it keeps its fiber, and another carries on.
#pragma once
#include <cstdarg>
#include <memory>
#include <random>
#include <vector>

#include "block_memory.h"
#include "fibers.h"
#include "grid.h"
#include "races.h"

namespace cuda_on_cpu {

constexpr unsigned warp_size = 32;
constexpr unsigned max_threads = 1024;  // of a block

enum class State { running, at_barrier, in_warp, done };  // running: or ready to

struct CudaThread : Thread {
  unsigned number;  // within the block, x fastest
  State state;
  Fiber* fiber;

  Place place;  // where it waits
  unsigned mask;
  void* brought;  // to the warp's meeting

  struct PendingCopy {
    Copy copy;
    int group;
  };
  std::vector<PendingCopy> copies;
  int committed_groups;
};

class Multiprocessor {
 public:
  static Multiprocessor& here();  // the host thread's own

  const char* run(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel);

  void wait_for_block(Place place);
  void wait_for_warp(unsigned mask, void* mine, Place place, void (*meet)(void*, void**), void* state, bool orders_memory);
  void* shared_memory(int64_t bytes);

  void describe_failure(const CudaThread& thread, const char* format, va_list arguments);
  [[noreturn]] void leave();  // to the host

 private:
  struct Warp {
    unsigned lanes, waiting, done;  // masks
  };

  // --- a launch and its blocks
  void prepare(dim3 grid, dim3 block);
  dim3 block_of_turn(uint64_t turn, uint64_t count) const;
  bool run_block();
  void carry();  // what every fiber does
  void run_thread(CudaThread& thread);

  // --- taking turns
  void change_to(Fiber& next);
  Fiber& next_to_run();
  void wait(CudaThread& thread);
  void add_ready(CudaThread& thread);
  CudaThread& take_ready();
  Fiber& new_fiber();
  void add_idle(Fiber& fiber);
  Fiber& take_idle();

  // --- waiting for each other
  void release_block();
  void release_warp(Warp& warp, unsigned mask, void (*meet)(void*, void**), void* state, bool orders_memory);
  void order_memory(unsigned first, unsigned count, unsigned mask);
  CudaThread& me() { return static_cast<CudaThread&>(*self); }
  CudaThread* lanes_of(const CudaThread& thread) { return &threads_[thread.number / warp_size * warp_size]; }

  // --- failures
  void explain_standstill();
  void say(const CudaThread& thread, const char* format, ...) __attribute__((format(printf, 3, 4)));
  void start_anew();

  Grid grid_;
  int64_t shared_bytes_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  uint64_t block_step_ = 1, first_block_ = 0;  // blocks in random order: first, first + step, first + 2 step, ...

  // the block that runs
  BlockMemory memory_;
  unsigned thread_count_ = 0, warp_count_ = 0;
  std::unique_ptr<CudaThread[]> threads_{new CudaThread[max_threads]()};
  Warp warps_[max_threads / warp_size];
  unsigned turns_[max_threads];  // numbers of threads in the order in which they start
  unsigned started_ = 0, at_barrier_ = 0, done_ = 0;

  // rings
  CudaThread* ready_[max_threads];
  unsigned first_ready_ = 0, ready_count_ = 0;
  Fiber* idle_[max_threads];
  unsigned first_idle_ = 0, idle_count_ = 0;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber host_;
  Fiber* current_ = &host_;

  std::minstd_rand dice_;
  char message_[1024] = "";
  char launch_begins_ = 0, launch_ends_ = 0;  // their addresses are points for the race checker
};

}  // namespace cuda_on_cpu
