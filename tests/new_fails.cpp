// operator new that fails once, at the k-th call: for LD_PRELOAD. Calls while it is held are neither counted nor refused.
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> left{0};
thread_local int held = 0;

void* get(std::size_t bytes) {
  if (!held && left.load(std::memory_order_relaxed) > 0 && left.fetch_sub(1) == 1) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return get(bytes); }
void* operator new[](std::size_t bytes) { return get(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" {
long new_fails(long k) { return left.exchange(k); }  // how many calls did not come that were waited for before: 0 when it has failed
void new_waits(int by) { held += by; }
}
