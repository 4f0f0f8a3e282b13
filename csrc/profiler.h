// What kernels cost: the time of each call with the operations and bytes of its row, added up by row, algorithm and scope (a number that
// Python gives a layer and a direction). A replay notes the scopes of its recording. Switched off it costs one look at a flag a call.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "device.h"
#include "table.h"

namespace fastnn {

struct Cost {
  Row row;
  int scope;
  const char* algorithm;
  int64_t operations, bytes;  // of one call: multiplications and additions of products; operands, each counted once
  int64_t calls = 0, nanoseconds = 0, least = 0;
};

namespace profiler {

struct Call {  // what is known of one before it runs
  Row row;
  const void* parameters;
  const char* algorithm;
  int64_t bytes;
  int scope;
};

void set(bool on);  // switching on begins anew
bool on();
void set_scope(int);  // of this thread's calls from now on
int scope();
std::vector<Cost> costs();
int64_t operations(Row, const void* parameters);

// Times what runs while it lives, when the profiler is on: on a GPU, from an idle stream to an idle stream.
class Watch {
 public:
  Watch(Device& device, const Call& call) : device_(device), call_(call), on_(on()) {
    if (on_) start();
  }
  Watch(const Watch&) = delete;
  ~Watch() {
    if (on_) finish();
  }

 private:
  void start();
  void finish() noexcept;
  Device& device_;
  const Call call_;
  const bool on_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace profiler
}  // namespace fastnn
