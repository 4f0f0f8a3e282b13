#include "fibers.h"

#include <cstdint>
#include <new>

#include <sys/mman.h>

#include "races.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a function must keep (System V ABI) on the old stack, and takes it from the new one. swapcontext would save the signal mask
// too, which is a system call: 15 times slower.
extern "C" void cuda_on_cpu_change_stack(void** save, void* load);
asm(R"(
.text
.hidden cuda_on_cpu_change_stack
.globl cuda_on_cpu_change_stack
.type cuda_on_cpu_change_stack, @function
cuda_on_cpu_change_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cuda_on_cpu_change_stack, . - cuda_on_cpu_change_stack
)");
#endif

namespace cuda_on_cpu {
namespace {

constexpr size_t stack_size = 256 * 1024;
constexpr size_t guard_size = 4096;  // below the stack, without access: an overrun stops at once

thread_local Fiber* entered = nullptr;  // by the last change
thread_local Fiber* left = nullptr;

}  // namespace

Fiber::Fiber(int number, void (*root)()) : root_(root), number_(number) {
  void* mapping = mmap(nullptr, guard_size + stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapping);
  mprotect(mapping_, guard_size, PROT_NONE);
  stack_ = mapping_ + guard_size;
  stack_bytes_ = stack_size;
  abandon();
}

Fiber::~Fiber() {
  if (!mapping_) return;
  if (race_checked_thread) races::end_thread(race_checked_thread);
  munmap(mapping_, guard_size + stack_size);
}

void Fiber::abandon() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, stack_bytes_);
  fake_stack_ = nullptr;
#endif
  if (race_checked_thread) races::end_thread(race_checked_thread);
  race_checked_thread = races::new_thread();
#if defined(__x86_64__)
  // Tops lie at different places within their pages, or the stacks of a block would all compete for the same lines of the cache.
  const size_t offset = size_t(number_) % 16 * 256;
  void** top = reinterpret_cast<void**>(mapping_ + guard_size + stack_size - offset);
  *--top = nullptr;  // begin()'s return address: none; the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(&Fiber::begin);
  for (int saved_register = 0; saved_register < 6; saved_register++) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = mapping_ + guard_size;
  context_.uc_stack.ss_size = stack_size;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::begin, 0);
#endif
}

void Fiber::begin() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &left->stack_, &left->stack_bytes_);
#endif
  entered->root_();
  __builtin_trap();
}

void Fiber::change(Fiber& from, Fiber& to) {
  if (&from == &to) return;
  left = &from;
  entered = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
#endif
  races::become(to.race_checked_thread);
#if defined(__x86_64__)
  cuda_on_cpu_change_stack(&from.stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack_, &left->stack_, &left->stack_bytes_);  // learns where the host's stack lies
#endif
}

}  // namespace cuda_on_cpu
