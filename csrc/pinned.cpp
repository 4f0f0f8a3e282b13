// Memory of the host from which copies to a GPU go on by themselves.
#include "array.h"

namespace fastnn {

// Given back behind the last copy out of it.
Array Array::pinned(Device& device) const {
  if (device.is_cpu() || !this->device().is_cpu())
    throw std::invalid_argument("pinned memory is the host's, for copies to a GPU: an array on " + this->device().name +
                                " cannot be pinned for " + device.name);
  device.select();
  struct Block {
    Device& device;
    size_t bytes;
    void *data, *event = nullptr;  // behind the last copy out of it
    Block(Device& d, size_t n) : device(d), bytes(n), data(d.pinned.allocate(n)) {}
    ~Block() {
      if (event) device.backend->synchronize_event(event), device.backend->destroy_event(event);
      device.pinned.release(data, bytes);
    }
  };
  const size_t n = bytes();
  const auto block = std::make_shared<Block>(device, n);
  device.check(device.backend->create_event(&block->event));
  Array copy{shape, dtype, std::make_shared<Storage>(cpu(), block->data, n, [block] {})};
  copy.storage->copied = block->event;
  cpu().copy(copy.data(), data(), n);
  return copy;
}

}  // namespace fastnn
