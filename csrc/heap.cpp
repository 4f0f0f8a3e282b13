#include "heap.h"

#include <cstdlib>  // tells whether this is glibc
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <sys/resource.h>

#include <iterator>
#include <new>

namespace fastnn {
namespace {

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// 64 GiB of addresses, or a small part of those that the process is limited to (ulimit -v): others need some as well.
size_t usual_region() {
  rlimit limit{};
  const bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return limited ? size_t(limit.rlim_cur) / 32 : size_t{64} << 30;
}

}  // namespace

// At the lowest address among equals, so that the top stays free.
Heap::Place Heap::smallest_fit(size_t bytes) {
  Place best = free_.end();
  for (Place at = free_.begin(); at != free_.end(); ++at)
    if (at->second.bytes >= bytes && (best == free_.end() || at->second.bytes < best->second.bytes)) best = at;
  return best;
}

// Only addresses: the system counts them, and refuses what is more than it has, when grow() makes them usable.
bool Heap::reserve(size_t bytes) {
  const size_t least = rounded(bytes, huge_page) + huge_page, usual = usual_region();
  regions_.reserve(regions_.size() + 1);  // before there is a region to be lost
  for (size_t size = usual > least ? usual : least; size >= least; size /= 2) {
    void* found = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) continue;
    char *start = static_cast<char*>(found), *base = start + (huge_page - reinterpret_cast<size_t>(start) % huge_page) % huge_page;
    madvise(found, size, MADV_HUGEPAGE);
    regions_.push_back({base, base, start + size});
    return true;
  }
  return false;
}

// The free range that ends at the top of the last region.
Heap::Place Heap::at_top() {
  if (regions_.empty()) return free_.end();
  const Place behind = free_.lower_bound(regions_.back().top), last = behind == free_.begin() ? free_.end() : std::prev(behind);
  return last != free_.end() && last->first + last->second.bytes == regions_.back().top ? last : free_.end();
}

// A free range of at least so many bytes at the top of the last region.
bool Heap::grow(size_t bytes) {
  Place last = at_top();
  size_t there = last == free_.end() ? 0 : last->second.bytes;
  if (regions_.empty() || size_t(regions_.back().end - regions_.back().top) < rounded(bytes - there, huge_page)) {
    if (!reserve(bytes)) return false;
    last = at_top(), there = last == free_.end() ? 0 : last->second.bytes;
  }
#ifdef __GLIBC__
  malloc_trim(0);  // what numpy has let go of meanwhile: initial values and the like
#endif
  Region& region = regions_.back();
  const size_t more = rounded(bytes - there, huge_page);
  if (mprotect(region.top, more, PROT_READ | PROT_WRITE) != 0) return false;
  const Place fresh = free_.emplace(region.top, Free{more, 0}).first;
  region.top += more;
  if (there) join(last, fresh);
  return true;
}

void Heap::join(Place first, Place second) {
  first->second.bytes += second->second.bytes, first->second.touched += second->second.touched;
  free_.erase(second);
}

void* Heap::allocate(size_t bytes) {
  Place found = smallest_fit(bytes);
  if (found == free_.end()) {
    if (!grow(bytes)) return nullptr;
    found = smallest_fit(bytes);
  }
  char* const block = found->first;
  const Free whole = found->second;
  const size_t touched = whole.touched < bytes ? whole.touched : bytes;
  if (whole.bytes > bytes) free_.emplace(block + bytes, Free{whole.bytes - bytes, whole.touched - touched});
  free_.erase(found);  // last: whatever fails before leaves all as it was
  held_ += bytes - touched;
  return block;
}

void Heap::release(void* block, size_t bytes) {
  Place at;
  try {
    at = free_.emplace(static_cast<char*>(block), Free{bytes, bytes}).first;
  } catch (const std::bad_alloc&) {  // no memory to remember it by: the system has it back, and its addresses are lost
    if (madvise(block, bytes, MADV_DONTNEED) == 0) held_ -= bytes;
    return;
  }
  const auto touch = [](Place a, Place b) { return a->first + a->second.bytes == b->first; };
  const Place next = std::next(at);
  if (next != free_.end() && touch(at, next)) join(at, next);
  if (at != free_.begin() && touch(std::prev(at), at)) join(std::prev(at), at);
}

bool Heap::owns(const void* block) const {
  for (const Region& region : regions_)
    if (block >= region.base && block < region.top) return true;
  return false;
}

void Heap::trim() {
  for (auto& [start, range] : free_) {
    if (range.touched == 0 || madvise(start, range.bytes, MADV_DONTNEED) != 0) continue;
    held_ -= range.touched;
    range.touched = 0;
  }
}

}  // namespace fastnn
