#include "profiler.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>

namespace fastnn::profiler {
namespace {

std::atomic<bool> switched_on{false};
thread_local int current_scope = 0;

using Key = std::tuple<Row, int, const char*, int64_t, int64_t>;

struct Book {
  std::mutex mutex;
  std::map<Key, Cost> costs;
};
Book& book() {
  static auto* b = [] {
    auto* fresh = new Book;
    pthread_atfork([] { book().mutex.lock(); }, [] { book().mutex.unlock(); }, [] { book().mutex.unlock(); });
    return fresh;
  }();
  return *b;
}

// --- a multiplication and an addition are two; what only moves memory has none

template <class S>
int64_t count(const S&) {
  return 0;
}
int64_t count(const Conv2d& c) { return 2 * c.N * c.K * c.P * c.Q * (c.C / c.G) * c.R * c.S; }
int64_t count(const Conv2dBatchNorm& both) { return count(both.conv); }
int64_t count(const MatMul& m) { return 2 * m.batch * m.M * m.N * m.K; }
int64_t count(const Distance& d) { return 2 * d.M * d.N * d.D; }

}  // namespace

int64_t operations(Row row, const void* parameters) {
  using Count = int64_t (*)(const void*);
  static const Count all[] = {
#define KERNEL(name, Struct, operands) [](const void* p) { return count(*static_cast<const Struct*>(p)); },
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"
  };
  return all[row](parameters);
}

void set(bool on) {
  std::lock_guard lock(book().mutex);
  if (on) book().costs.clear();
  switched_on = on;
}

bool on() { return switched_on.load(std::memory_order_relaxed); }
void set_scope(int scope) { current_scope = scope; }
int scope() { return current_scope; }

std::vector<Cost> costs() {
  std::lock_guard lock(book().mutex);
  std::vector<Cost> all;
  for (const auto& [key, cost] : book().costs) all.push_back(cost);
  return all;
}

void Watch::start() {
  device_.synchronize();
  started_ = std::chrono::steady_clock::now();
}

void Watch::finish() noexcept try {
  try {
    device_.synchronize();
  } catch (const DeviceError&) {  // stays with the device: the next call of it reports it
  }
  const int64_t spent = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - started_).count();
  const int64_t work = operations(call_.row, call_.parameters);
  std::lock_guard lock(book().mutex);
  const Cost fresh{call_.row, call_.scope, call_.algorithm, work, call_.bytes};
  Cost& cost = book().costs.try_emplace({call_.row, call_.scope, call_.algorithm, work, call_.bytes}, fresh).first->second;
  cost.least = cost.calls ? std::min(cost.least, spent) : spent;
  cost.calls++, cost.nanoseconds += spent;
} catch (const std::bad_alloc&) {  // this call is not told of
}

}  // namespace fastnn::profiler
