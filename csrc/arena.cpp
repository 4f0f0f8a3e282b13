#include "arena.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace fastnn::arena {
namespace {

constexpr size_t huge_page = size_t{2} << 20, huge_from = size_t{1} << 20;

struct State {
  std::mutex mutex;
  std::unordered_map<size_t, std::vector<void*>> free_blocks;  // by size class
  MemoryStats stats{};
};

// Never destroyed: arrays may be released while the process exits.
State& state() {
  static State* s = [] {
    auto* fresh = new State;
    pthread_atfork([] { state().mutex.lock(); }, [] { state().mutex.unlock(); }, [] { state().mutex.unlock(); });
    return fresh;
  }();
  return *s;
}

// Eight classes an octave: at most 12.5 % is wasted, and shapes that differ a little share blocks.
size_t size_class(size_t bytes) {
  bytes += slack;
  size_t step = 64;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

void* from_system(size_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, bytes < huge_from ? 64 : huge_page, bytes) != 0) return nullptr;
  if (bytes >= huge_from)
    madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // whole pages only: the rest would be memory not asked for
  return block;
}

void free_unused(State& s) {
  for (auto& [bytes, blocks] : s.free_blocks) {
    for (void* block : blocks) std::free(block);
    s.stats.reserved -= int64_t(bytes * blocks.size());
    blocks.clear();
  }
}

}  // namespace

void* allocate(size_t bytes) {
  if (bytes > size_t{1} << 46) throw OutOfMemory("fastnn: out of memory: " + std::to_string(bytes) + " bytes requested");
  const size_t rounded = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  auto& blocks = s.free_blocks[rounded];
  void* block = nullptr;
  if (!blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
    s.stats.reused++;
  } else {
    block = from_system(rounded);
    if (!block) {
      free_unused(s);
      block = from_system(rounded);
    }
    if (!block)
      throw OutOfMemory("fastnn: out of memory: " + std::to_string(bytes) + " bytes requested, " + std::to_string(s.stats.allocated) +
                        " held by live arrays; a smaller batch needs less");
    s.stats.reserved += int64_t(rounded);
  }
  s.stats.allocations++;
  s.stats.allocated += int64_t(rounded);
  if (s.stats.allocated > s.stats.peak) s.stats.peak = s.stats.allocated;
  return block;
}

void release(void* block, size_t bytes) {
  const size_t rounded = size_class(bytes);
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.free_blocks[rounded].push_back(block);
  s.stats.allocated -= int64_t(rounded);
}

MemoryStats stats() {
  std::lock_guard lock(state().mutex);
  return state().stats;
}

void reset_peak() {
  std::lock_guard lock(state().mutex);
  state().stats.peak = state().stats.allocated;
}

void empty_cache() {
  std::lock_guard lock(state().mutex);
  free_unused(state());
}

}  // namespace fastnn::arena
