#include "arena.h"

#include <pthread.h>

#include <cstdlib>
#include <fstream>
#include <mutex>

#include "fence.h"
#include "heap.h"

namespace fastnn {
namespace {

constexpr size_t heap_from = size_t{256} << 10;

// One lock for all arenas, so that a fork finds none of them half changed. Never destroyed: arrays may be released while the process exits.
std::mutex& lock() {
  static std::mutex* mutex = [] {
    auto* fresh = new std::mutex;
    pthread_atfork([] { lock().lock(); }, [] { lock().unlock(); }, [] { lock().unlock(); });
    return fresh;
  }();
  return *mutex;
}

std::string mode() {
  const char* value = std::getenv("FASTNN_ARENA");
  return value ? value : "";
}

bool fenced() {
  static const bool on = mode() == "fenced" || mode() == "fenced-before";
  return on;
}

bool exact() {
  static const bool on = mode() == "off" || fenced();
  return on;
}

int64_t calls_to_failure = 0;  // see fail_allocation; 0: not asked for

// Eight classes an octave: at most 12.5 % is wasted, and shapes that differ a little share blocks.
size_t size_class(size_t bytes, size_t keeps_from) {
  if (exact()) return bytes ? bytes : 1;
  bytes += Arena::slack();
  if (bytes >= keeps_from) return (bytes + Heap::page - 1) / Heap::page * Heap::page;
  size_t step = 64;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

int64_t available_on_host() {
  std::ifstream lines("/proc/meminfo");
  for (std::string name, kib, unit; lines >> name >> kib;) {
    if (name == "MemAvailable:") return 1024 * std::atoll(kib.c_str());
    std::getline(lines, unit);
  }
  return 0;
}

}  // namespace

Arena::Source host_memory() {
  const auto small = [](size_t bytes) -> void* {
    void* block = nullptr;
    return posix_memalign(&block, 64, bytes) == 0 ? block : nullptr;
  };
  if (fenced()) return {mode() == "fenced" ? fence::allocate_at_end : fence::allocate_at_start, fence::release, available_on_host};
  if (exact()) return {small, [](void* block) { std::free(block); }, available_on_host};
  // Parameters, their gradients and what optimizers keep lie in a heap of their own: among the arrays of a step they would stay where those
  // need room again. Never destroyed, as the lock.
  static auto *passing = new Heap, *lasting = new Heap;
  return {[=](size_t bytes) { return bytes >= heap_from ? passing->allocate(bytes) : small(bytes); },
          [](void* block) { std::free(block); },
          available_on_host,
          heap_from,
          [](size_t bytes) { return lasting->allocate(bytes); },
          [](void* block, size_t bytes) { (lasting->owns(block) ? lasting : passing)->release(block, bytes); },
          [] { return int64_t(passing->held() + lasting->held()); },
          [] { passing->trim(), lasting->trim(); }};
}

size_t Arena::slack() { return exact() ? 0 : most_slack; }

void Arena::free_unused() {
  for (auto& [key, blocks] : free_blocks_) {
    for (void* block : blocks) source_.release(block);
    stats_.reserved -= int64_t(key.first * blocks.size());
    blocks.clear();
  }
  if (!source_.trim) return;
  const int64_t before = source_.kept();
  source_.trim();
  stats_.reserved += source_.kept() - before;
}

// From the cache or the source; null when there is not enough.
void* Arena::take(size_t rounded, void* stream, bool lasting) {
  if (rounded >= source_.keeps_from) {
    const int64_t before = source_.kept();
    void* block = lasting && source_.allocate_lasting ? source_.allocate_lasting(rounded) : source_.allocate(rounded);
    const int64_t fresh = source_.kept() - before;
    stats_.reserved += fresh;
    stats_.reused += block && fresh == 0;
    return block;
  }
  auto& blocks = free_blocks_[{rounded, stream}];
  if (blocks.empty()) {
    void* block = source_.allocate(rounded);
    if (block) stats_.reserved += int64_t(rounded);
    return block;
  }
  void* block = blocks.back();
  blocks.pop_back();
  stats_.reused++;
  return block;
}

void* Arena::allocate(size_t bytes, void* stream, bool lasting) {
  const bool possible = bytes <= size_t{1} << 46;
  const size_t rounded = possible ? size_class(bytes, source_.keeps_from) : 0;
  std::lock_guard guard(lock());
  const bool asked_to_fail = calls_to_failure > 0 && --calls_to_failure == 0;
  void* block = possible && !asked_to_fail ? take(rounded, stream, lasting) : nullptr;
  if (!block && possible && !asked_to_fail) {
    free_unused();
    block = take(rounded, stream, lasting);
  }
  if (!block) {
    const int64_t free = source_.free(), held = stats_.allocated;
    throw OutOfMemory("fastnn: out of memory on " + device_ + ": " + std::to_string(bytes) + " bytes requested, " + std::to_string(free) +
                          " free, " + std::to_string(held) + " held by live arrays; a smaller batch needs less",
                      int64_t(bytes), free, held);
  }
  stats_.allocations++;
  stats_.allocated += int64_t(rounded);
  if (stats_.allocated > stats_.peak) stats_.peak = stats_.allocated;
  return block;
}

void Arena::release(void* block, size_t bytes, void* stream) {
  const size_t rounded = size_class(bytes, source_.keeps_from);
  std::lock_guard guard(lock());
  stats_.allocated -= int64_t(rounded);
  if (exact()) {
    source_.release(block);
    stats_.reserved -= int64_t(rounded);
  } else if (rounded >= source_.keeps_from) {
    const int64_t before = source_.kept();
    source_.release_kept(block, rounded);
    stats_.reserved += source_.kept() - before;
  } else {
    try {
      free_blocks_[{rounded, stream}].push_back(block);
    } catch (const std::bad_alloc&) {  // no memory to remember it by
      source_.release(block);
      stats_.reserved -= int64_t(rounded);
    }
  }
}

MemoryStats Arena::stats() const {
  std::lock_guard guard(lock());
  return stats_;
}

void Arena::reset_peak() {
  std::lock_guard guard(lock());
  stats_.peak = stats_.allocated;
}

void Arena::empty_cache() {
  std::lock_guard guard(lock());
  free_unused();
}

int64_t Arena::fail_allocation(int64_t k) {
  std::lock_guard guard(lock());
  return std::exchange(calls_to_failure, k);
}

}  // namespace fastnn
