// The pool of threads that kernels run on. One per process; a caller that finds it busy runs its blocks itself.
#pragma once
#include <cfenv>
#include <string>

#include "context.h"

namespace fastnn {

// While it lives, in the calling thread: flush-to-zero and denormals-are-zero, and the processor's own flags, which stay up, say whether
// anything overflowed, was divided by 0, or had no result (inf - inf). Its end counts that; the former state comes back.
class FloatState {
 public:
  FloatState();
  ~FloatState();
  void count_exceptions();  // so far, and flags are down again

 private:
#if defined(__SSE__)
  const unsigned int saved_;
#else
  std::fexcept_t saved_;
#endif
};
uint64_t float_exceptions();   // how many of them met some, in any thread
void count_float_exception();  // of what sets no flag

namespace threads {

Context context();                                          // for a kernel call now
void set_count(int n, const char* by = "set_num_threads");  // by: literal; throws std::invalid_argument unless 1 <= n <= 256
int count();
std::string reason();  // why count() is what it is
// Memory of each thread's own, from one kernel to the next: half a huge page. Throws OutOfMemory.
constexpr int64_t own_bytes = int64_t{1} << 20;
void have_own();  // this thread has it from now on, as workers have
char* own();
uint64_t workers_seen();  // bit w: worker w ran a block since clear_workers_seen()
void clear_workers_seen();

}  // namespace threads
}  // namespace fastnn
