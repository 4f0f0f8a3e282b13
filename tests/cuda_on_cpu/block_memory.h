// A block's shared memory, full of NaN when the block starts. Under the sanitizers every block has its own: exactly as large as asked for,
// for AddressSanitizer; for ThreadSanitizer a new mapping, since the past of those is forgotten, with room for the points at which
// threads are ordered.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include <sys/mman.h>

#include "races.h"

namespace cuda_on_cpu {

class BlockMemory {
 public:
  BlockMemory() = default;
  ~BlockMemory() { drop(); }
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;

  void renew(int64_t bytes) {
    if (new_for_each_block || bytes > capacity_) {
      drop();
      take(bytes);
    }
    if (bytes) memset(memory_, 0xFF, size_t(bytes));
  }
  void* get() const { return memory_; }

  void* next_point() { return points_ + 8 * (next_point_++ % points); }  // for the race checker, which goes by addresses

 private:
#if defined(CUDA_ON_CPU_TSAN)
  static constexpr bool new_for_each_block = true;
  static constexpr int64_t points = 4096;

  void take(int64_t bytes) {
    void* mapping = mmap(nullptr, size_t(8 * points + bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    points_ = static_cast<char*>(mapping);
    memory_ = points_ + 8 * points;
    capacity_ = bytes;
  }
  void drop() {
    if (points_) munmap(points_, size_t(8 * points + capacity_));
    points_ = memory_ = nullptr;
  }
#else
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool new_for_each_block = true;
#else
  static constexpr bool new_for_each_block = false;
#endif
  static constexpr int64_t points = 1;

  void take(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 1024, size_t(bytes))) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    capacity_ = bytes;
  }
  void drop() {
    free(memory_);
    memory_ = nullptr;
  }
#endif

  char *memory_ = nullptr, *points_ = nullptr;
  int64_t capacity_ = 0;
  unsigned next_point_ = 0;
};

}  // namespace cuda_on_cpu
