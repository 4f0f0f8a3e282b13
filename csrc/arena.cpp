#include "arena.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <fstream>
#include <mutex>

namespace fastnn {
namespace {

constexpr size_t huge_page = size_t{2} << 20, huge_from = size_t{1} << 20;

// One lock for all arenas, so that a fork finds none of them half changed. Never destroyed: arrays may be released while the process exits.
std::mutex& lock() {
  static std::mutex* mutex = [] {
    auto* fresh = new std::mutex;
    pthread_atfork([] { lock().lock(); }, [] { lock().unlock(); }, [] { lock().unlock(); });
    return fresh;
  }();
  return *mutex;
}

bool exact() {
  static const bool off = [] {
    const char* value = std::getenv("FASTNN_ARENA");
    return value && std::string(value) == "off";
  }();
  return off;
}

// Eight classes an octave: at most 12.5 % is wasted, and shapes that differ a little share blocks.
size_t size_class(size_t bytes) {
  if (exact()) return bytes ? bytes : 1;
  bytes += Arena::slack();
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
  return {[](size_t bytes) -> void* {
            void* block = nullptr;
            if (posix_memalign(&block, bytes < huge_from ? 64 : huge_page, bytes) != 0) return nullptr;
            if (bytes >= huge_from)
              madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // whole pages only: the rest would be memory not asked for
            return block;
          },
          [](void* block) { std::free(block); }, available_on_host};
}

size_t Arena::slack() { return exact() ? 0 : most_slack; }

void Arena::free_unused() {
  for (auto& [key, blocks] : free_blocks_) {
    for (void* block : blocks) source_.release(block);
    stats_.reserved -= int64_t(key.first * blocks.size());
    blocks.clear();
  }
}

void* Arena::allocate(size_t bytes, void* stream) {
  const bool possible = bytes <= size_t{1} << 46;
  const size_t rounded = possible ? size_class(bytes) : 0;
  std::lock_guard guard(lock());
  auto& blocks = free_blocks_[{rounded, stream}];
  void* block = nullptr;
  if (!blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
    stats_.reused++;
  } else if (possible) {
    block = source_.allocate(rounded);
    if (!block) {
      free_unused();
      block = source_.allocate(rounded);
    }
    if (block) stats_.reserved += int64_t(rounded);
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
  const size_t rounded = size_class(bytes);
  std::lock_guard guard(lock());
  stats_.allocated -= int64_t(rounded);
  if (exact()) {
    source_.release(block);
    stats_.reserved -= int64_t(rounded);
  } else {
    free_blocks_[{rounded, stream}].push_back(block);
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

}  // namespace fastnn
