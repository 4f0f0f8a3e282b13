#include "fence.h"

#include <sys/mman.h>

#include <cstdint>

namespace fastnn::fence {
namespace {

constexpr size_t page = 4096;

}  // namespace

// One page that holds the size of the whole, the block's pages, one page more. The block begins where its size allows so that it ends with
// its last page: its address is a multiple of what its size is a multiple of.
void* allocate(size_t bytes) {
  const size_t pages = (bytes + page - 1) / page * page, whole = pages + 2 * page;
  void* found = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(found);
  *static_cast<size_t*>(found) = whole;
  mprotect(start, page, PROT_NONE);
  mprotect(start + page + pages, page, PROT_NONE);
  return start + page + pages - bytes;
}

void release(void* block) {
  char* const start = static_cast<char*>(block) - reinterpret_cast<uintptr_t>(block) % page - page;
  mprotect(start, page, PROT_READ);
  munmap(start, *reinterpret_cast<size_t*>(start));
}

}  // namespace fastnn::fence
