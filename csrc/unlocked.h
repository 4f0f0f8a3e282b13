// Python's lock, let go of while kernels run, and what becomes of threads that wait for it when the process ends.
#pragma once
#include <Python.h>
#include <cxxabi.h>
#include <unistd.h>

// Before Python 3.14 a daemon thread that asks for the interpreter's lock while the process ends is ended by pthread_exit, which unwinds
// through destructors: of objects that need the lock, and such as must not throw, where the process aborts. It waits for the end instead.
template <class F>
auto or_wait_for_the_end(const F& call) {
  try {
    return call();
  } catch (abi::__forced_unwind&) {
    for (;;) pause();
  }
}

// Without the interpreter's lock, as long as it lives.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  Unlocked(const Unlocked&) = delete;
  ~Unlocked() {
    or_wait_for_the_end([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* const state_;
};
