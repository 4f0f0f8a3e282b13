#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace fastnn {

#if defined(__SSE__)
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // FTZ bit 15, DAZ bit 6
FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }
static void relax() { _mm_pause(); }
#else
FlushDenormals::FlushDenormals() : saved_(0) {}
FlushDenormals::~FlushDenormals() {}
static void relax() {}
#endif

namespace threads {
namespace {

constexpr int max_threads = 256;
constexpr auto spin_time = std::chrono::microseconds(100);  // between two kernels of a step; longer idleness sleeps

using Body = void (*)(void* state, int64_t block, int worker);

// Blocks that a worker begins with, in a cache line of its own. Blocks are mostly numbered along the images, so in layer after layer a
// worker meets the images that lie in its cache, which another core reaches slowly or, behind another L3, hardly faster than memory.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// One job at a time. `gate` is (job number << 32 | open bit 31 | workers inside): a worker enters an open gate by counting itself in;
// the caller closes the gate when no block is left and waits until the workers inside are gone. A worker that wakes too late
// finds the gate closed, so nobody waits for a sleeper.
class Pool {
 public:
  Pool() {
    set_default();
    pthread_atfork([] { the().before_fork(); }, [] { the().after_fork_in_parent(); }, [] { the().after_fork_in_child(); });
  }
  static Pool& the() {
    static Pool* pool = new Pool;  // never destroyed: workers may outlive main()
    return *pool;
  }

  void run(int workers, int64_t blocks, Body body, void* state) {
    if (workers == 1 || blocks == 1) return run_alone(blocks, body, state);
    std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) return run_alone(blocks, body, state);
    start_missing(workers - 1);
    body_ = body, state_ = state;
    joinable_ = int(std::min<int64_t>(workers, blocks));
    for (int w = 0; w < joinable_; w++) {
      shares_[w].next.store(blocks * w / joinable_, std::memory_order_relaxed);
      shares_[w].end = blocks * (w + 1) / joinable_;
    }
    gate_.store((++job_ << 32) | open_bit, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard lock(sleep_mutex_);
      wake_.notify_all();
    }
    take_blocks(0);
    gate_.fetch_and(~open_bit, std::memory_order_acq_rel);
    for (int spins = 0; gate_.load(std::memory_order_acquire) & inside_mask; spins++) {
      relax();
      if (spins > 2000) std::this_thread::yield();  // more threads than cores: let the last one finish
    }
  }

  int count = 1;
  std::string reason;
  std::atomic<uint64_t> seen{0};

 private:
  static constexpr uint64_t open_bit = uint64_t{1} << 31, inside_mask = open_bit - 1;

  void run_alone(int64_t blocks, Body body, void* state) {
    mark(0);
    for (int64_t block = 0; block < blocks; block++) body(state, block, 0);
  }

  void mark(int worker) {
    if (worker < 64) seen.fetch_or(uint64_t{1} << worker, std::memory_order_relaxed);
  }

  // Its own share first, then what is left of the others'.
  void take_blocks(int worker) {
    bool any = false;
    for (int i = 0; i < joinable_; i++) {
      Share& share = shares_[(worker + i) % joinable_];
      for (int64_t block; (block = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end; any = true)
        body_(state_, block, worker);
    }
    if (any) mark(worker);
  }

  bool enter(int worker, uint64_t& last_job) {
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & open_bit) && gate >> 32 != last_job) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
      last_job = gate >> 32;
      if (worker < joinable_) return true;
      gate_.fetch_sub(1, std::memory_order_acq_rel);
      return false;
    }
    return false;
  }

  void work(int worker) {
    FlushDenormals flush;
    uint64_t last_job = 0;
    for (;;) {
      const auto sleep_at = std::chrono::steady_clock::now() + spin_time;
      bool entered = false;
      for (int spins = 0; !(entered = enter(worker, last_job)); spins++) {
        relax();
        if (spins % 256 == 255 && std::chrono::steady_clock::now() > sleep_at) {
          wait_for_job(last_job);
          break;
        }
      }
      if (!entered) continue;
      take_blocks(worker);
      gate_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void wait_for_job(uint64_t last_job) {
    std::unique_lock lock(sleep_mutex_);
    sleeping_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] {
      const uint64_t gate = gate_.load(std::memory_order_seq_cst);
      return (gate & open_bit) && gate >> 32 != last_job;
    });
    sleeping_.fetch_sub(1, std::memory_order_seq_cst);
  }

  void start_missing(int wanted) {
    for (; started_ < wanted; started_++) std::thread([this, worker = started_ + 1] { work(worker); }).detach();
  }

  void before_fork() {
    busy_.lock();
    sleep_mutex_.lock();
  }
  void after_fork_in_parent() {
    sleep_mutex_.unlock();
    busy_.unlock();
  }
  void after_fork_in_child() {  // the workers did not come along: start new ones when needed
    new (&wake_) std::condition_variable;
    started_ = 0;
    sleeping_.store(0);
    gate_.store(job_ << 32);
    sleep_mutex_.unlock();
    busy_.unlock();
  }

  void set_default();

  std::mutex busy_, sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleeping_{0};
  std::atomic<uint64_t> gate_{0};
  Share shares_[max_threads];
  uint64_t job_ = 0;
  Body body_ = nullptr;
  void* state_ = nullptr;
  int joinable_ = 0, started_ = 0;
};

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// CPUs of the affinity mask, and how many physical cores they are.
void affinity(int& cpus, int& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  cpus = cores = 1;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  cpus = std::max(1, CPU_COUNT(&mask));
  std::set<std::string> siblings;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &mask)) {
      const std::string line = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      siblings.insert(line.empty() ? "cpu " + std::to_string(cpu) : line);
    }
  cores = std::max<int>(1, int(siblings.size()));
}

int quota() {  // CPUs granted by the control group (version 2, then 1), rounded up; 0 when unlimited
  const std::string v2 = first_line("/sys/fs/cgroup/cpu.max");
  if (!v2.empty() && v2.rfind("max", 0) != 0) {
    const size_t space = v2.find(' ');
    const double period = space == std::string::npos ? 1e5 : std::atof(v2.c_str() + space);
    if (period > 0) return std::max(1, int(std::atof(v2.c_str()) / period + 0.999));
  }
  const double granted = std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str());
  const double period = std::atof(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str());
  return granted > 0 && period > 0 ? std::max(1, int(granted / period + 0.999)) : 0;
}

void Pool::set_default() {
  int cpus = 1, cores = 1;
  affinity(cpus, cores);
  const int granted = quota();
  count = std::min({cpus, cores, granted ? granted : max_threads, max_threads});
  reason = "min of " + std::to_string(cpus) + " CPUs allowed, " + std::to_string(cores) + " physical cores, " +
           (granted ? "a control-group quota of " + std::to_string(granted) : std::string("no control-group quota"));
}

void run(const Context& context, int64_t blocks, Body body, void* state) { Pool::the().run(context.workers, blocks, body, state); }

}  // namespace

Context context() { return {run, Pool::the().count}; }

void set_count(int n) {
  if (n < 1 || n > max_threads) throw std::invalid_argument("number of threads must lie in 1 ... 256, got " + std::to_string(n));
  Pool::the().count = n;
  Pool::the().reason = "set by set_num_threads";
}

int count() { return Pool::the().count; }
std::string reason() { return Pool::the().reason; }
Limits limits() {
  Limits l{1, 1, quota()};
  affinity(l.cpus, l.cores);
  return l;
}
uint64_t workers_seen() { return Pool::the().seen.load(); }
void clear_workers_seen() { Pool::the().seen.store(0); }

}  // namespace threads
}  // namespace fastnn
