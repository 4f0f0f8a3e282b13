#include "threads.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "device.h"
#include "processors.h"

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace fastnn {

namespace {

std::atomic<uint64_t> exceptions{0};

#if defined(__SSE__)
constexpr unsigned int flags = 0x3f, telling = 0x0d, flush = 0x8040;  // invalid, divided by 0, overflow; FTZ bit 15, DAZ bit 6
void relax() { _mm_pause(); }
#else
void relax() {}
#endif

}  // namespace

#if defined(__SSE__)
FloatState::FloatState() : saved_(_mm_getcsr()) { _mm_setcsr((saved_ & ~flags) | flush); }
FloatState::~FloatState() {
  if (_mm_getcsr() & telling) count_float_exception();
  _mm_setcsr(saved_);
}
void FloatState::count_exceptions() {
  if (!(_mm_getcsr() & telling)) return;
  count_float_exception();
  _mm_setcsr(_mm_getcsr() & ~flags);
}
#else
FloatState::FloatState() {
  std::fegetexceptflag(&saved_, FE_ALL_EXCEPT);
  std::feclearexcept(FE_ALL_EXCEPT);
}
FloatState::~FloatState() {
  count_exceptions();
  std::fesetexceptflag(&saved_, FE_ALL_EXCEPT);
}
void FloatState::count_exceptions() {
  if (!std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW)) return;
  count_float_exception();
  std::feclearexcept(FE_ALL_EXCEPT);
}
#endif

uint64_t float_exceptions() { return exceptions.load(); }
void count_float_exception() { exceptions.fetch_add(1); }

namespace threads {
namespace {

constexpr int max_threads = 256;
constexpr auto spin_time = std::chrono::microseconds(100);  // between two kernels of a step; longer idleness sleeps

using Body = void (*)(void* state, int64_t block, int worker);

// Halves of huge pages; those of threads that have ended go to others.
class Halves {
 public:
  static Halves& the() {
    static Halves* halves = new Halves;  // never destroyed: threads may outlive main()
    return *halves;
  }
  char* take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) map();
    char* const half = free_.back();
    free_.pop_back();
    return half;
  }
  void before_fork() { mutex_.lock(); }
  void after_fork() { mutex_.unlock(); }
  void give_back(char* half) {
    std::lock_guard lock(mutex_);
    free_.push_back(half);  // there is room: it was among them
  }

 private:
  void map() {
    constexpr size_t page = size_t(2 * own_bytes);
    free_.reserve(taken_ + 2);
    void* const found = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED)
      throw OutOfMemory("fastnn: out of memory: the system has none left for a thread's own", 2 * page, cpu().arena.free(), 0);
    char *const start = static_cast<char*>(found), *const base = start + (page - reinterpret_cast<size_t>(start) % page) % page;
    if (base > start) munmap(start, size_t(base - start));
    munmap(base + page, page - size_t(base - start));
    madvise(base, page, MADV_HUGEPAGE);
    free_.push_back(base + own_bytes), free_.push_back(base);
    taken_ += 2;
  }

  std::mutex mutex_;
  std::vector<char*> free_;
  size_t taken_ = 0;
};

thread_local char* own_ = nullptr;  // of this thread
struct Half {
  char* memory = nullptr;
  ~Half() {
    own_ = nullptr;
    if (memory) Halves::the().give_back(memory);
  }
};
thread_local Half callers;  // of a thread that calls kernels

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
    const Limits limits = thread_limits();
    count = std::min(limits.least(), max_threads), default_reason = limits.text();
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

  std::atomic<int> count{1};
  std::string default_reason;
  std::atomic<const char*> set_by{nullptr};
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
    own_ = own_of_[worker];
    FloatState state;
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
      state.count_exceptions();
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
    try {
      for (; started_ < wanted; started_++) {
        const int worker = started_ + 1;
        if (!own_of_[worker]) own_of_[worker] = Halves::the().take();
        std::thread([this, worker] { work(worker); }).detach();
      }
    } catch (const std::exception&) {  // no more to be had, or no memory: those that are there take all blocks
    }
  }

  void before_fork() {
    busy_.lock();
    sleep_mutex_.lock();
    Halves::the().before_fork();
  }
  void after_fork_in_parent() {
    Halves::the().after_fork();
    sleep_mutex_.unlock();
    busy_.unlock();
  }
  void after_fork_in_child() {  // the workers did not come along: start new ones when needed
    Halves::the().after_fork();
    new (&wake_) std::condition_variable;
    started_ = 0;
    sleeping_.store(0);
    gate_.store(job_ << 32);
    sleep_mutex_.unlock();
    busy_.unlock();
  }

  std::mutex busy_, sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleeping_{0};
  std::atomic<uint64_t> gate_{0};
  Share shares_[max_threads];
  char* own_of_[max_threads] = {};  // workers
  uint64_t job_ = 0;
  Body body_ = nullptr;
  void* state_ = nullptr;
  int joinable_ = 0, started_ = 0;
};

void run(const Context& context, int64_t blocks, Body body, void* state) { Pool::the().run(context.workers, blocks, body, state); }

}  // namespace

Context context() { return {run, Pool::the().count}; }

void have_own() {
  if (!own_) own_ = callers.memory = Halves::the().take();
}
char* own() { return own_; }

void set_count(int n, const char* by) {
  if (n < 1 || n > max_threads) throw std::invalid_argument("number of threads must lie in 1 ... 256, got " + std::to_string(n));
  Pool::the().count = n;
  Pool::the().set_by = by;
}

int count() { return Pool::the().count; }
std::string reason() {
  const char* by = Pool::the().set_by;
  return by ? std::string("set by ") + by : Pool::the().default_reason;
}
uint64_t workers_seen() { return Pool::the().seen.load(); }
void clear_workers_seen() { Pool::the().seen.store(0); }

}  // namespace threads
}  // namespace fastnn

// What threadpoolctl asks libraries for (fastnn/threadpools.py).
extern "C" {
__attribute__((visibility("default"))) int fastnn_get_num_threads() { return fastnn::threads::count(); }
__attribute__((visibility("default"))) void fastnn_set_num_threads(int n) {
  fastnn::threads::set_count(std::clamp(n, 1, fastnn::threads::max_threads), "threadpoolctl");
}
}
