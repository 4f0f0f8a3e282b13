#include "multiprocessor.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace cuda_on_cpu {

__thread Thread* self = nullptr;

namespace {

// ThreadSanitizer takes two threads that had the same fiber for one. So fibers are used in turn then, one thread at a time.
constexpr unsigned fibers_in_turn = races::looked_for ? 512 : 0;

Order order_of_environment() {
  const char* name = getenv("FASTNN_EMULATED_ORDER");
  const std::string order = name ? name : "forward";
  return order == "reverse" ? Order::reverse : order == "random" ? Order::random : Order::forward;
}
Order order = order_of_environment();

// As -ftz=true does: denormals count as zero, in operands and results.
class DenormalsAreZero {
 public:
#if defined(__x86_64__)
  DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~DenormalsAreZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  DenormalsAreZero() {}
#endif
};

bool same(const Place& a, const Place& b) { return a.line == b.line && !strcmp(a.file, b.file) && !strcmp(a.what, b.what); }

struct Text {
  char text[256];
};

Text name_of(const dim3& at) {
  Text t;
  snprintf(t.text, sizeof t.text, "(%u,%u,%u)", at.x, at.y, at.z);
  return t;
}

Text doing(const CudaThread& thread) {
  if (thread.state == State::done) return {"has left the kernel"};
  if (thread.state == State::running) return {"runs"};
  const char* slash = strrchr(thread.place.file, '/');
  const char* file = slash ? slash + 1 : thread.place.file;
  Text t;
  if (thread.state == State::at_barrier)
    snprintf(t.text, sizeof t.text, "waits at %s (%s:%d)", thread.place.what, file, thread.place.line);
  else
    snprintf(t.text, sizeof t.text, "waits at %s (%s:%d) with mask %08x", thread.place.what, file, thread.place.line, thread.mask);
  return t;
}

}  // namespace

void set_order(Order turns) { order = turns; }

Multiprocessor& Multiprocessor::here() {
  // Apart, since a library that is opened late gets little thread-local memory.
  thread_local const auto multiprocessor = std::make_unique<Multiprocessor>();
  return *multiprocessor;
}

// --- a launch and its blocks

const char* Multiprocessor::run(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel) {
  prepare(grid, block);
  shared_bytes_ = shared_bytes;
  kernel_ = &kernel;
  message_[0] = 0;
  host_.race_checked_thread = races::this_thread();
  {
    const DenormalsAreZero denormals;
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    bool fine = true;
    for (uint64_t turn = 0; turn < blocks && fine; turn++) {
      grid_.block = block_of_turn(turn, blocks);
      fine = run_block();
    }
  }
  self = nullptr;
  if (message_[0]) start_anew();
  races::acquire(&launch_ends_);
  return message_[0] ? message_ : nullptr;
}

void Multiprocessor::prepare(dim3 grid, dim3 block) {
  grid_.size = grid;
  grid_.block_size = block;
  thread_count_ = block.x * block.y * block.z;
  warp_count_ = (thread_count_ + warp_size - 1) / warp_size;
  for (unsigned i = 0; i < thread_count_; i++) {
    CudaThread& thread = threads_[i];
    thread.index = dim3(i % block.x, i / block.x % block.y, i / (block.x * block.y));
    thread.lane = i % warp_size;
    thread.grid = &grid_;
    thread.number = i;
    turns_[i] = order == Order::reverse ? thread_count_ - 1 - i : i;
  }
  while (fibers_.size() < fibers_in_turn) add_idle(new_fiber());
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  first_block_ = dice_() % blocks;
  do block_step_ = dice_() % blocks + 1;
  while (std::gcd(block_step_, blocks) != 1);
}

dim3 Multiprocessor::block_of_turn(uint64_t turn, uint64_t count) const {
  const uint64_t i = order == Order::forward   ? turn
                     : order == Order::reverse ? count - 1 - turn
                                               : (first_block_ + turn * block_step_) % count;
  const dim3& size = grid_.size;
  return dim3(unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y));
}

bool Multiprocessor::run_block() {
  for (unsigned w = 0; w < warp_count_; w++) {
    const unsigned lanes = std::min(warp_size, thread_count_ - w * warp_size);
    warps_[w] = {~0u >> (warp_size - lanes), 0, 0};
  }
  if (order == Order::random) std::shuffle(turns_, turns_ + thread_count_, dice_);
  if (shared_bytes_ || races::looked_for) memory_.renew(shared_bytes_);
  races::release(&launch_begins_);
  started_ = at_barrier_ = done_ = 0;
  first_ready_ = ready_count_ = 0;
  change_to(next_to_run());  // comes back when nobody can run
  if (!message_[0] && done_ < thread_count_) explain_standstill();
  return !message_[0];
}

void Multiprocessor::carry() {
  for (;;) {
    while (started_ < thread_count_) {
      run_thread(threads_[turns_[started_++]]);
      if (fibers_in_turn) break;
    }
    add_idle(*current_);
    change_to(next_to_run());
  }
}

void Multiprocessor::run_thread(CudaThread& thread) {
  thread.state = State::running;
  thread.fiber = current_;
  thread.committed_groups = 0;
  self = &thread;
  races::acquire(&launch_begins_);
  Text thrown;
  thrown.text[0] = 0;
  try {
    (*kernel_)();
  } catch (const std::exception& exception) {
    snprintf(thrown.text, sizeof thrown.text, "threw: %s", exception.what());
  } catch (...) {
    snprintf(thrown.text, sizeof thrown.text, "threw what is no std::exception");
  }
  if (thrown.text[0]) fail("%s", thrown.text);
  if (!thread.copies.empty()) fail("leaves the kernel without having waited for %zu of its cp.async copies", thread.copies.size());
  thread.state = State::done;
  warps_[thread.number / warp_size].done |= 1u << thread.lane;
  done_++;
  races::release(&launch_ends_);
}

// --- taking turns

void Multiprocessor::change_to(Fiber& next) {
  Fiber& before = *current_;
  current_ = &next;
  Fiber::change(before, next);
}

// Those who waited go first, so that a warp may run far ahead of the others; in random order, chance decides.
Fiber& Multiprocessor::next_to_run() {
  const bool may_start = started_ < thread_count_;
  const bool rather_start = may_start && order == Order::random && dice_() % 2;
  if (ready_count_ && !rather_start) return *take_ready().fiber;
  return may_start ? take_idle() : host_;
}

void Multiprocessor::wait(CudaThread& thread) {
  change_to(next_to_run());
  self = &thread;
}

void Multiprocessor::add_ready(CudaThread& thread) {
  thread.state = State::running;
  ready_[(first_ready_ + ready_count_++) % max_threads] = &thread;
}

CudaThread& Multiprocessor::take_ready() {
  if (order == Order::random) std::swap(ready_[first_ready_], ready_[(first_ready_ + dice_() % ready_count_) % max_threads]);
  CudaThread& thread = *ready_[first_ready_];
  first_ready_ = (first_ready_ + 1) % max_threads;
  ready_count_--;
  return thread;
}

Fiber& Multiprocessor::new_fiber() {
  fibers_.push_back(std::make_unique<Fiber>(int(fibers_.size()), [] { here().carry(); }));
  return *fibers_.back();
}

void Multiprocessor::add_idle(Fiber& fiber) {
  fiber.idle = true;
  idle_[(first_idle_ + idle_count_++) % max_threads] = &fiber;
}

// The last used, whose stack is in cache; in turn, the first.
Fiber& Multiprocessor::take_idle() {
  if (!idle_count_) return new_fiber();
  Fiber& fiber = *idle_[fibers_in_turn ? first_idle_ : (first_idle_ + idle_count_ - 1) % max_threads];
  if (fibers_in_turn) first_idle_ = (first_idle_ + 1) % max_threads;
  idle_count_--;
  fiber.idle = false;
  return fiber;
}

// --- waiting for each other

void Multiprocessor::wait_for_block(Place place) {
  CudaThread& thread = me();
  thread.state = State::at_barrier;
  thread.place = place;
  if (++at_barrier_ == thread_count_) release_block();
  wait(thread);
}

void Multiprocessor::release_block() {
  const CudaThread& thread = me();
  for (unsigned i = 0; i < thread_count_; i++) {
    const CudaThread& other = threads_[i];
    if (!same(other.place, thread.place))
      fail("%s, but thread %s %s (divergent __syncthreads)", doing(thread).text, name_of(other.index).text, doing(other).text);
  }
  at_barrier_ = 0;
  order_memory(0, thread_count_, ~0u);
  for (unsigned i = 0; i < thread_count_; i++) add_ready(threads_[turns_[i]]);
}

void Multiprocessor::wait_for_warp(unsigned mask, void* mine, Place place, void (*meet)(void*, void**), void* state, bool orders_memory) {
  CudaThread& thread = me();
  Warp& warp = warps_[thread.number / warp_size];
  const unsigned bit = 1u << thread.lane;
  thread.state = State::in_warp;
  thread.place = place;
  thread.mask = mask;
  thread.brought = mine;
  const auto first = [](unsigned lanes) { return __builtin_ctz(lanes); };
  if (!(mask & bit)) fail("%s, which does not name lane %u, its own", doing(thread).text, thread.lane);
  if (mask & ~warp.lanes) fail("%s, which names lane %d, but the block has no such thread", doing(thread).text, first(mask & ~warp.lanes));
  if (mask & warp.done) fail("%s, which names lane %d, but that one has left the kernel", doing(thread).text, first(mask & warp.done));
  warp.waiting |= bit;
  if ((warp.waiting & mask) == mask) release_warp(warp, mask, meet, state, orders_memory);
  wait(thread);
}

void Multiprocessor::release_warp(Warp& warp, unsigned mask, void (*meet)(void*, void**), void* state, bool orders_memory) {
  const CudaThread& thread = me();
  CudaThread* lanes = lanes_of(thread);
  void* brought[warp_size] = {};
  for (unsigned lane = 0; lane < warp_size; lane++) {
    if (!(mask >> lane & 1)) continue;
    const CudaThread& other = lanes[lane];
    if (other.mask != mask || !same(other.place, thread.place))
      fail("%s, but thread %s of its warp %s", doing(thread).text, name_of(other.index).text, doing(other).text);
    brought[lane] = other.brought;
  }
  if (meet) {
    const races::Unwatched unwatched;
    meet(state, brought);
  }
  if (orders_memory) order_memory(lanes[0].number, warp_size, mask);
  warp.waiting &= ~mask;
  for (unsigned i = 0; i < warp_size; i++) {
    const unsigned lane = order == Order::reverse ? warp_size - 1 - i : i;
    if (mask >> lane & 1) add_ready(lanes[lane]);
  }
}

// Tells the race checker that what these threads did happened before what any of them will do.
void Multiprocessor::order_memory(unsigned first, unsigned count, unsigned mask) {
  if (!races::looked_for) return;
  void* point = memory_.next_point();
  for (void (*tell)(void*) : {races::release, races::acquire}) {
    for (unsigned i = 0; i < count; i++) {
      if (!(mask >> i % warp_size & 1)) continue;
      races::become(threads_[first + i].fiber->race_checked_thread);
      tell(point);
    }
  }
  races::become(current_->race_checked_thread);
}

void* Multiprocessor::shared_memory(int64_t bytes) {
  if (bytes > shared_bytes_) fail("asks for %lld bytes of shared memory and has %lld", (long long)bytes, (long long)shared_bytes_);
  return memory_.get();
}

// --- failures

void Multiprocessor::describe_failure(const CudaThread& thread, const char* format, va_list arguments) {
  const races::Unwatched unwatched;
  const int length =
      snprintf(message_, sizeof message_, "a kernel on a grid of %s blocks of %s threads: in block %s, thread %s ",
               name_of(grid_.size).text, name_of(grid_.block_size).text, name_of(grid_.block).text, name_of(thread.index).text);
  vsnprintf(message_ + length, sizeof message_ - size_t(length), format, arguments);
}

void Multiprocessor::say(const CudaThread& thread, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  describe_failure(thread, format, arguments);
  va_end(arguments);
}

void Multiprocessor::leave() {
  change_to(host_);
  __builtin_unreachable();
}

// Everybody waits or has left: names a thread, and another for which it waits in vain.
void Multiprocessor::explain_standstill() {
  for (unsigned i = 0; i < thread_count_; i++) {
    const CudaThread& thread = threads_[i];
    if (thread.state != State::in_warp) continue;
    const CudaThread* lanes = lanes_of(thread);
    for (unsigned lane = 0; lane < warp_size; lane++) {
      const CudaThread& other = lanes[lane];
      if (!(thread.mask >> lane & 1) || (other.state == State::in_warp && other.mask == thread.mask)) continue;
      return say(thread, "%s for ever: thread %s %s", doing(thread).text, name_of(other.index).text, doing(other).text);
    }
  }
  const CudaThread *waiting = nullptr, *other = nullptr;
  for (unsigned i = 0; i < thread_count_; i++) (threads_[i].state == State::at_barrier ? waiting : other) = &threads_[i];
  say(*waiting, "%s for ever: thread %s %s (divergent __syncthreads)", doing(*waiting).text, name_of(other->index).text,
      doing(*other).text);
}

// After a failure, fibers stand anywhere in the kernel.
void Multiprocessor::start_anew() {
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->idle) continue;
    races::become(fiber->race_checked_thread);
    races::release(&launch_ends_);
    races::become(host_.race_checked_thread);
    fiber->abandon();
    add_idle(*fiber);
  }
  for (unsigned i = 0; i < max_threads; i++) threads_[i].copies.clear();
}

}  // namespace cuda_on_cpu
