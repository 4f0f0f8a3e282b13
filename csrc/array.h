// A dense array. Rank alone decides the layout: rank 4 has shape (N, C, H, W) and lies N, H, W, C; every other rank is row-major.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "device.h"
#include "kernels.h"

namespace fastnn {

int64_t count(const Shape&);
bool operator==(const Shape&, const Shape&);
std::string text(const Shape&);                 // "(2, 3)"
Shape strides_of(const Shape&);                 // in elements, per logical dimension
size_t bytes_of(const Shape&, Dtype, Device&);  // throws where a size is negative, or no memory has them

// Bytes shared by arrays of the same memory order (reshape). `version` counts in-place writes; backward compares it.
struct Storage {
  Device& device;
  void* data = nullptr;
  size_t bytes = 0;
  std::atomic<int64_t> version{0};
  std::function<void()> release;     // for memory that is not the arena's
  void* stream = nullptr;            // whose block of the arena it is
  std::atomic<void*> used{nullptr};  // another stream that was given work with it
  std::atomic<bool> several{false};  // there are more of them
  void* copied = nullptr;            // pinned memory: the event behind the last copy out of it
  std::atomic<bool> shared{false};   // with another library, whose writes are not counted
  bool imagined = false;             // of a recorded step: an address that nobody has, and no bytes (recording.h)
  Storage(Device& device, size_t bytes, bool lasting = false);
  Storage(Device& device, void* data, size_t bytes, std::function<void()> release);
  ~Storage();
  bool from_arena() const { return !release; }
  void used_on(void* other) {
    if (other == stream) return;
    if (void* const before = used.exchange(other); before && before != other) several = true;
  }
};

struct Array {
  Shape shape;
  Dtype dtype = Dtype::float32;
  std::shared_ptr<Storage> storage;

  static Array empty(const Shape&, Dtype, Device& = cpu());
  static Array lasting(const Shape&, Dtype, Device& = cpu());  // for long: see Arena::allocate
  // The same bytes under another shape. Throws unless the element order in memory is the same (see same_order).
  Array view(const Shape&) const;
  Array to(Device&) const;      // a copy there
  Array pinned(Device&) const;  // a copy on the CPU, in memory from which copies to that device go on by themselves
  Device& device() const { return storage->device; }
  void* data() const { return storage->data; }
  int64_t count() const { return fastnn::count(shape); }
  size_t bytes() const { return size_t(count()) * item_size(dtype); }
};

// Whether row-major order and memory order agree: any rank but 4, or C = 1, or H W = 1.
bool lies_row_major(const Shape&);

}  // namespace fastnn
