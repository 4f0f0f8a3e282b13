// The pool of threads that kernels run on. One per process; a caller that finds it busy runs its blocks itself.
#pragma once
#include <string>

#include "context.h"

namespace fastnn {

// Flush-to-zero and denormals-are-zero while it lives, in the calling thread; the former state comes back.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();

 private:
  unsigned int saved_;
};

namespace threads {

Context context();                                          // for a kernel call now
void set_count(int n, const char* by = "set_num_threads");  // by: literal; throws std::invalid_argument unless 1 <= n <= 256
int count();
std::string reason();     // why count() is what it is
uint64_t workers_seen();  // bit w: worker w ran a block since clear_workers_seen()
void clear_workers_seen();

}  // namespace threads
}  // namespace fastnn
