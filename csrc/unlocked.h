// Python's lock, let go of while kernels run, and what becomes of threads that wait for it when the process ends.
#pragma once
#include <Python.h>
#include <cxxabi.h>
#include <unistd.h>

#include "thunk.h"

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

// Without the interpreter's lock, as long as it lives; unless there is so little to do that letting go of it takes as long.
class Unlocked {
 public:
  explicit Unlocked(bool worth = true) : state_(worth ? PyEval_SaveThread() : nullptr) {}
  Unlocked(const Unlocked&) = delete;
  ~Unlocked() {
    if (state_) or_wait_for_the_end([this] { PyEval_RestoreThread(state_); });
  }

  // Of a call on these: some thousand numbers in all, of its results as well.
  static bool worth(const fastnn::RowInfo& row, const void* parameters, const std::vector<fastnn::Argument>& arguments) {
    double bytes = 0;  // a shape that is refused later may have any number
    for (const fastnn::Argument& argument : arguments)
      for (const fastnn::Array& array : argument) bytes += double(array.bytes());
    for (const fastnn::Operand& operand : row.operands)
      if (operand.direction == fastnn::Direction::out) bytes += 4.0 * double(fastnn::count(operand.shape(parameters)));
    return bytes > 8192;
  }

 private:
  PyThreadState* const state_;
};
