#include "fence.h"

#include <sys/mman.h>

#include <cstdint>

namespace fastnn::fence {
namespace {

constexpr size_t page = 4096;

size_t whole_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

// The first of the pages of a block of so many bytes: one page that holds the size of the whole comes before them, one more behind. Null
// when there is not enough.
char* pages_of(size_t bytes) {
  const size_t pages = whole_pages(bytes), whole = pages + 2 * page;
  void* found = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(found);
  *static_cast<size_t*>(found) = whole;
  mprotect(start, page, PROT_NONE);
  mprotect(start + page + pages, page, PROT_NONE);
  return start + page;
}

}  // namespace

// Its address is a multiple of what its size is a multiple of.
void* allocate_at_end(size_t bytes) {
  char* const first = pages_of(bytes);
  return first ? first + whole_pages(bytes) - bytes : nullptr;
}

void* allocate_at_start(size_t bytes) { return pages_of(bytes); }

void release(void* block) {
  char* const start = static_cast<char*>(block) - reinterpret_cast<uintptr_t>(block) % page - page;
  mprotect(start, page, PROT_READ);
  munmap(start, *reinterpret_cast<size_t*>(start));
}

}  // namespace fastnn::fence
