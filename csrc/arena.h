// Memory for arrays and scratch: 64-byte aligned blocks, kept after use and handed out again by size.
// Blocks of 1 MiB and more lie on 2 MiB boundaries and ask for huge pages. Safe to call from any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace fastnn {

struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct MemoryStats {
  int64_t allocated;    // bytes in live blocks
  int64_t peak;         // highest `allocated` since the last reset
  int64_t reserved;     // bytes held from the system, live or waiting for reuse
  int64_t allocations;  // blocks handed out so far
  int64_t reused;       // of these, how many came from the cache
};

namespace arena {

constexpr size_t slack = 64;  // writable bytes behind every block: kernels may not touch them, the sentinels of the tests lie there

void* allocate(size_t bytes);             // throws OutOfMemory
void release(void* block, size_t bytes);  // bytes as given to allocate
MemoryStats stats();
void reset_peak();
void empty_cache();  // gives unused blocks back to the system

}  // namespace arena
}  // namespace fastnn
