// What ThreadSanitizer is told: each CUDA thread is a thread of its own, ordered with others by __syncthreads, __syncwarp, the beginning
// and the end of a launch, and by nothing else. Files that include this with CUDA_ON_CPU_TSAN must not be instrumented themselves: what the
// scheduler does on behalf of all threads is not theirs.
#pragma once

#if defined(CUDA_ON_CPU_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

namespace cuda_on_cpu::races {

#if defined(CUDA_ON_CPU_TSAN)
constexpr bool looked_for = true;
inline void* new_thread() { return __tsan_create_fiber(0); }
inline void* this_thread() { return __tsan_get_current_fiber(); }
inline void end_thread(void* thread) { __tsan_destroy_fiber(thread); }
inline void become(void* thread) { __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync); }
inline void release(void* point) { __tsan_release(point); }
inline void acquire(void* point) { __tsan_acquire(point); }

struct Unwatched {  // while it lives, the thread's accesses do not count
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};
#else
constexpr bool looked_for = false;
inline void* new_thread() { return nullptr; }
inline void* this_thread() { return nullptr; }
inline void end_thread(void*) {}
inline void become(void*) {}
inline void release(void*) {}
inline void acquire(void*) {}
struct Unwatched {
  Unwatched() {}
  ~Unwatched() {}
};
#endif

}  // namespace cuda_on_cpu::races
