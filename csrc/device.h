// Where arrays lie and kernels run: the CPU, or a device of a backend (CUDA) that was opened at run time.
#pragma once
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "dtype.h"

namespace fastnn {

struct DeviceError : std::runtime_error {  // becomes RuntimeError
  using std::runtime_error::runtime_error;
};

class Device {
 public:
  Device(std::string name, const Backend* backend, int index);
  Device(const Device&) = delete;

  const std::string name;        // "cpu", "cuda:0"
  const Backend* const backend;  // null for the CPU
  const int index;               // among the backend's devices
  Arena arena;
  Arena pinned;  // memory of the host that copies to this device need not wait for

  bool is_cpu() const { return !backend; }
  const Table& table(Dtype storage) const;  // throws DeviceError where there is none
  Context context();                        // for a kernel call of this thread, now
  void check_launches();                    // throws DeviceError when one of this thread's launches failed

  void* stream();          // this thread's; work on a stream is done in order. Null on the CPU, whose calls are done when they return
  void set_stream(void*);  // null: the device's own
  void order(void* first, void* then);  // what stream `then` is given from now on waits for what `first` has been given
  void synchronize();                   // waits for this thread's stream
  void finish();                        // waits for all work, also that of others
  // A stream that nobody else has, until it is given back. None is destroyed: memory remembers on which it was used, and a driver that is
  // asked about a stream that is gone ends the process.
  void* take_stream();
  void give_back_stream(void*);
  // Memory that stream `used` was given work with is next used on stream `then`. Who has streams of his own may have destroyed them.
  void let_go(void* used, void* then);

  void select();                                             // for this thread's next calls of the backend
  void copy_in(void* here, const void* host, size_t bytes);  // the host's bytes may be changed as soon as it returns
  void copy_out(void* host, const void* here, size_t bytes);
  void copy(void* here, const void* from, size_t bytes);  // both on this device
  void fill(void* here, int byte, size_t bytes);

  // Throws DeviceError with the backend's message unless that is null.
  void check(const char* problem) const;

 private:
  void* own_stream_ = nullptr;  // made when first asked for: a GPU that is never used need not be one that could be
  std::once_flag own_stream_made_;
  std::mutex streams_lock_;
  std::vector<void*> idle_streams_;
  std::set<void*> streams_;  // all that were made
};

Device& cpu();
int64_t own_bytes();  // that kernels of the CPU may use of each thread's own memory: none where scratch is watched to the byte
[[noreturn]] void rethrow(const std::exception_ptr&);  // std::bad_alloc as OutOfMemory
Device& device_named(const std::string&);              // "cpu", "cuda:1", "cuda" for "cuda:0"; throws std::invalid_argument

// Opens a shared object that exports fastnn_backend() and adds its devices; opening it again changes nothing. Returns their names.
std::vector<std::string> open_backend(const std::string& path);  // throws DeviceError with one sentence on what does not fit

Precision precision();  // of all devices
void set_precision(Precision);
bool winograd();  // whether convolutions may take that detour; tests and bench switch it off
void set_winograd(bool);
int64_t past_caches_from();  // bytes of a result; tests and bench set it
void set_past_caches_from(int64_t);

}  // namespace fastnn
