// Large blocks of the host's memory, side by side in one stretch of addresses: what one array leaves, arrays of any other sizes take, so
// that little more is resident than was ever alive at once. Not safe by itself: the arena's lock is held.
#pragma once
#include <cstddef>
#include <map>
#include <vector>

namespace fastnn {

class Heap {
 public:
  static constexpr size_t page = 4096, huge_page = size_t{2} << 20;

  void* allocate(size_t bytes);  // whole pages; null when there is not enough
  void release(void* block, size_t bytes);
  void trim();  // gives the free pages back to the system
  bool owns(const void* block) const;
  size_t held() const { return held_; }  // bytes that were touched and not given back

 private:
  struct Free {
    size_t bytes, touched;  // touched since the system gave them: the first to be handed out, as far as is known
  };
  struct Region {  // addresses; those up to `top` can be used
    char *base, *top, *end;
  };
  using Place = std::map<char*, Free>::iterator;

  Place smallest_fit(size_t bytes);
  Place at_top();
  bool grow(size_t bytes);
  bool reserve(size_t bytes);
  void join(Place first, Place second);

  std::vector<Region> regions_;
  std::map<char*, Free> free_;  // by address; no two of them touch
  size_t held_ = 0;
};

}  // namespace fastnn
