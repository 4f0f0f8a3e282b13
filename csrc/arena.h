// Memory for arrays and scratch: aligned blocks of one device, kept after use and handed out again. Safe to call from any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fastnn {

struct OutOfMemory : std::runtime_error {
  int64_t requested, free, held;  // bytes: asked for, not in anybody's use, in live arrays
  OutOfMemory(const std::string& text, int64_t requested, int64_t free, int64_t held)
      : std::runtime_error(text), requested(requested), free(free), held(held) {}
};

struct MemoryStats {
  int64_t allocated;    // bytes in live blocks
  int64_t peak;         // highest `allocated` since the last reset
  int64_t reserved;     // bytes held from the system, live or waiting for reuse
  int64_t allocations;  // blocks handed out so far
  int64_t reused;       // of these, how many came from the cache
};

class Arena {
 public:
  // Writable bytes behind every block: kernels may not touch them, the sentinels of the tests lie there. With FASTNN_ARENA=off there are
  // none: every block is as long as it was asked for and goes back to the system at once, so that memory checkers see each byte beyond.
  // FASTNN_ARENA=fenced (and fenced-before) is the same with pages that nobody may touch around each block of the host (see fence.h).
  static constexpr size_t most_slack = 64;
  static size_t slack();

  struct Source {                                 // where blocks come from
    std::function<void*(size_t bytes)> allocate;  // null when there is not enough
    std::function<void(void* block)> release;
    std::function<int64_t()> free;  // bytes that could still be had
    size_t keeps_from = SIZE_MAX;   // blocks of so many bytes or more go back to the source at once, which keeps them in its own way:
    std::function<void*(size_t bytes)> allocate_lasting = nullptr;  // such a block for long, apart from those that come and go
    std::function<void(void* block, size_t bytes)> release_kept = nullptr;
    std::function<int64_t()> kept = nullptr;  // bytes behind such blocks, in use or not
    std::function<void()> trim = nullptr;     // gives those that are not in use back to the system
  };

  Arena(Source source, std::string device) : source_(std::move(source)), device_(std::move(device)) {}
  Arena(const Arena&) = delete;

  // A block is handed out again on the stream it was used on before: work waiting there is done with it by then. The CPU has none.
  // lasting: it will most likely outlive those that are handed out after it. Throws OutOfMemory.
  void* allocate(size_t bytes, void* stream = nullptr, bool lasting = false);
  void release(void* block, size_t bytes, void* stream = nullptr);  // both as given to allocate
  MemoryStats stats() const;
  int64_t free() const { return source_.free(); }
  void reset_peak();
  void empty_cache();  // gives unused blocks back to the system

  // For tests: the k-th call of allocate from now on, of any arena and thread, finds no memory; k = 0: none does. Returns how many of the
  // calls that were waited for before did not come: 0 when it has failed.
  static int64_t fail_allocation(int64_t k);

 private:
  void free_unused();
  void* take(size_t rounded, void* stream, bool lasting);

  const Source source_;
  const std::string device_;
  std::map<std::pair<size_t, void*>, std::vector<void*>> free_blocks_;  // by size class and stream
  MemoryStats stats_{};
};

Arena::Source host_memory();  // 64-byte aligned; blocks of 256 KiB and more lie side by side in huge pages (see heap.h)

}  // namespace fastnn
