// A fiber: a stack of its own on a thread of the host. It runs when somebody switches to it, and stops where it switches to another.
#pragma once
#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cuda_on_cpu {

class Fiber {
 public:
  Fiber() = default;                  // what runs already: the host's own stack
  Fiber(int number, void (*root)());  // root() begins at the first switch and never returns
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void abandon();  // forgets what it was doing: the next switch begins root() again
  static void change(Fiber& from, Fiber& to);

  bool idle = false;                    // for the scheduler's use
  void* race_checked_thread = nullptr;  // who it is for the race checker

 private:
  static void begin();

  void (*root_)() = nullptr;
  char* mapping_ = nullptr;
  const void* stack_ = nullptr;  // lowest address
  size_t stack_bytes_ = 0;
  int number_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace cuda_on_cpu
