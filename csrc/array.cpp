#include "array.h"

#include <algorithm>

namespace fastnn {

int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int i = 0; i < shape.rank; i++) n *= shape.d[i];
  return n;
}

bool operator==(const Shape& a, const Shape& b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; i++)
    if (a.d[i] != b.d[i]) return false;
  return true;
}

std::string text(const Shape& shape) {
  std::string s = "(";
  for (int i = 0; i < shape.rank; i++) s += (i ? ", " : "") + std::to_string(shape.d[i]);
  return s + (shape.rank == 1 ? ",)" : ")");
}

Shape strides_of(const Shape& shape) {
  Shape strides;
  strides.rank = shape.rank;
  if (shape.rank == 4) {
    const int64_t C = shape.d[1], H = shape.d[2], W = shape.d[3];
    const int64_t nhwc[4] = {H * W * C, 1, W * C, C};
    for (int i = 0; i < 4; i++) strides.d[i] = nhwc[i];
    return strides;
  }
  int64_t stride = 1;
  for (int i = shape.rank; i-- > 0;) {
    strides.d[i] = stride;
    stride *= shape.d[i];
  }
  return strides;
}

bool lies_row_major(const Shape& shape) { return shape.rank != 4 || shape.d[1] <= 1 || shape.d[2] * shape.d[3] <= 1; }

Storage::Storage(Device& d, size_t n, bool lasting) : device(d), bytes(n), stream(d.stream()) {
  data = d.arena.allocate(n, stream, lasting);
}

Storage::Storage(Device& d, void* p, size_t n, std::function<void()> f) : device(d), data(p), bytes(n), release(std::move(f)) {}

// Whoever gets the memory next may begin at once: a block of the arena on its own stream, memory of others on any.
Storage::~Storage() {
  try {
    if (several || (release && used))
      device.finish();
    else if (release)
      device.synchronize();
    else if (used)
      device.let_go(used, stream);
  } catch (const DeviceError&) {  // of a device that has failed: nothing is under way there
  }
  if (release) {
    release();
  } else {
    device.arena.release(data, bytes, stream);
  }
}

size_t bytes_of(const Shape& shape, Dtype dtype, Device& device) {
  const bool empty = std::find(shape.d, shape.d + shape.rank, 0) != shape.d + shape.rank;
  int64_t n = 1;  // of an empty array its other sizes: strides are made of them
  for (int i = 0; i < shape.rank; i++) {
    if (shape.d[i] < 0) throw std::invalid_argument("shape " + text(shape) + " has a negative size");
    if (shape.d[i] && (__builtin_mul_overflow(n, shape.d[i], &n) || n > int64_t{1} << (empty ? 60 : 46)))
      throw OutOfMemory("shape " + text(shape) + " is larger than any memory", INT64_MAX, device.arena.free(),
                        device.arena.stats().allocated);
  }
  return empty ? 0 : size_t(n) * item_size(dtype);
}

Array Array::empty(const Shape& shape, Dtype dtype, Device& device) {
  return {shape, dtype, std::make_shared<Storage>(device, bytes_of(shape, dtype, device))};
}

Array Array::lasting(const Shape& shape, Dtype dtype, Device& device) {
  return {shape, dtype, std::make_shared<Storage>(device, bytes_of(shape, dtype, device), true)};
}

Array Array::view(const Shape& to) const {
  if (fastnn::count(to) != count()) throw std::invalid_argument("cannot view shape " + text(shape) + " as " + text(to));
  if (!(shape == to) && !(lies_row_major(shape) && lies_row_major(to)))
    throw std::invalid_argument("viewing " + text(shape) + " as " + text(to) + " would permute: rank 4 lies N, H, W, C");
  return {to, dtype, storage};
}

Array Array::to(Device& there) const {
  Array copy = Array::empty(shape, dtype, there);
  Device& here = device();
  if (here.is_cpu()) {
    there.copy_in(copy.data(), data(), bytes());
    if (storage->copied && !there.is_cpu()) there.check(there.backend->record(storage->copied, there.stream()));
    if (!storage->copied && !storage->from_arena()) there.synchronize();  // may be pinned by others, whose copies are not waited for
  } else if (there.is_cpu()) {
    here.copy_out(copy.data(), data(), bytes());
  } else if (here.backend == there.backend) {
    &here != &there ? here.synchronize() : storage->used_on(there.stream());
    there.copy(copy.data(), data(), bytes());
    if (&here != &there) there.order(there.stream(), here.stream());  // the source may be freed at once
  } else {
    return to(cpu()).to(there);
  }
  return copy;
}

}  // namespace fastnn
