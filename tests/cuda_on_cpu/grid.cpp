#include "grid.h"

#include <atomic>
#include <cstring>

#include "multiprocessor.h"

namespace cuda_on_cpu {
namespace {

Multiprocessor& here() { return Multiprocessor::here(); }
CudaThread& me() { return static_cast<CudaThread&>(*self); }

bool is_aligned(const void* p, int bytes) { return reinterpret_cast<uintptr_t>(p) % uintptr_t(bytes) == 0; }

}  // namespace

const char* run_grid(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel) {
  return here().run(grid, block, shared_bytes, kernel);
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  here().describe_failure(me(), format, arguments);
  va_end(arguments);
  here().leave();
}

void* shared_memory(int64_t bytes) { return here().shared_memory(bytes); }

void block_barrier(Place place) { here().wait_for_block(place); }
void warp_barrier(unsigned mask, Place place) { here().wait_for_warp(mask, nullptr, place, nullptr, nullptr, true); }
void warp_meeting(unsigned mask, void* mine, Place place, void (*meet)(void*, void**), void* state) {
  here().wait_for_warp(mask, mine, place, meet, state, false);
}

uint64_t exchange(unsigned mask, uint64_t value, unsigned source_lane, Place place) {
  struct Parcel {
    uint64_t sent, received;
    unsigned source_lane;
  };
  const auto deliver = [](void*, void** lanes) {
    for (unsigned lane = 0; lane < warp_size; lane++) {
      Parcel* parcel = static_cast<Parcel*>(lanes[lane]);
      if (parcel) parcel->received = static_cast<Parcel*>(lanes[parcel->source_lane])->sent;
    }
  };
  if (!(mask >> source_lane & 1))
    fail("reads lane %u at %s (%s:%d), which its mask %08x does not name", source_lane, place.what, place.file, place.line, mask);
  Parcel mine{value, 0, source_lane};
  warp_meeting(mask, &mine, place, deliver, nullptr);
  return mine.received;
}

// --- cp.async

void note_copy(const Copy& copy) {
  if (copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16) fail("copies %d bytes by cp.async, which takes 4, 8 or 16", copy.bytes);
  if (copy.valid_bytes < 0 || copy.valid_bytes > copy.bytes) fail("copies %d of %d bytes by cp.async", copy.valid_bytes, copy.bytes);
  if (!is_aligned(copy.from, copy.bytes) || !is_aligned(copy.to, copy.bytes))
    fail("copies %d bytes by cp.async from %p to %p, which are not aligned to that", copy.bytes, copy.from, copy.to);
  const races::Unwatched unwatched;
  me().copies.push_back({copy, me().committed_groups});
}

void commit_copies() { me().committed_groups++; }

bool take_copy(int newest_groups, Copy* copy) {
  const races::Unwatched unwatched;
  std::vector<CudaThread::PendingCopy>& copies = me().copies;
  if (copies.empty() || copies.front().group >= me().committed_groups - newest_groups) return false;
  *copy = copies.front().copy;
  copies.erase(copies.begin());
  return true;
}

// --- products of warpgroups

static std::atomic<unsigned long long> group_products{0};

void note_group_product() { group_products.fetch_add(1, std::memory_order_relaxed); }

extern "C" __attribute__((visibility("default"))) unsigned long long fastnn_emulated_group_products() { return group_products; }

}  // namespace cuda_on_cpu
