// How many processors this process may use.
#pragma once
#include <string>

namespace fastnn {

struct Limits {
  int cpus, cores, quota;  // CPUs of the affinity mask, the physical cores they are, CPUs granted by control groups (0: no limit)
  int least() const;
  std::string text() const;
};

// The control groups are those that the process is in, version 2 or 1, the innermost and those around it; rounded up.
Limits thread_limits(const std::string& root = "");  // root: put before /proc and /sys/fs, for tests

}  // namespace fastnn
