#include "device.h"

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "isa.h"
#include "threads.h"
#include "thunk.h"

namespace fastnn {
namespace {

std::atomic<Precision> chosen_precision{Precision::highest};
std::atomic<bool> winograd_allowed{true};
std::atomic<int64_t> least_past_caches{Context{}.past_caches_from};
thread_local std::map<const Device*, void*> chosen_streams;

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::vector<std::unique_ptr<Device>>> backends;  // by the backend's name
  std::map<std::string, std::vector<std::string>> opened;                // names of the devices, by path
};
Registry& registry() {
  static auto* r = new Registry;  // never destroyed: arrays may be released while the process exits
  return *r;
}

Arena::Source memory_of(const Backend* backend, int index) {
  if (!backend) return host_memory();
  return {[=](size_t bytes) -> void* {
            void* block = nullptr;
            if (const char* problem = backend->select(index)) throw DeviceError(problem);
            if (const char* problem = backend->allocate(int64_t(bytes), &block)) throw DeviceError(problem);
            return block;
          },
          [=](void* block) {
            if (!backend->select(index)) backend->release(block);
          },
          [=] {
            int64_t free = 0, total = 0;
            backend->memory(index, &free, &total);
            return free;
          }};
}

Arena::Source pinned_memory(const Backend* backend) {
  if (!backend) return host_memory();
  return {[=](size_t bytes) -> void* {
            void* block = nullptr;
            if (const char* problem = backend->pin(int64_t(bytes), &block)) throw DeviceError(problem);
            return block;
          },
          [=](void* block) { backend->unpin(block); }, host_memory().free};
}

}  // namespace

Device::Device(std::string name_, const Backend* backend_, int index_)
    : name(std::move(name_)),
      backend(backend_),
      index(index_),
      arena(memory_of(backend_, index_), name),
      pinned(pinned_memory(backend_), "the host, pinned for " + name) {}

void Device::check(const char* problem) const {
  if (problem) throw DeviceError(name + ": " + problem);
}

const Table& Device::table(Dtype storage) const {
  const Table* table = is_cpu() ? isa::table(storage) : backend->table(int(storage));
  if (table) return *table;
  const std::string what = std::string("no kernels for ") + fastnn::name(storage) + " on " + name + "; ";
  if (storage == Dtype::float64) throw DeviceError(what + "float64 is computed on the CPU: use .to('cpu')");
  if (storage == Dtype::bfloat16 && is_cpu())
    throw DeviceError(what + "the instruction set here is " + isa::name() + ", avx512bf16 has them: use float32");
  throw DeviceError(what + "use float32");
}

int64_t own_bytes() { return instrumented() || !Arena::slack() ? 0 : threads::own_bytes; }

Context Device::context() {
  Context context = threads::context();
  context.precision = precision();
  context.winograd = winograd();
  context.past_caches_from = past_caches_from();
  if (is_cpu()) {
    threads::have_own();
    context.own_bytes = own_bytes(), context.own = &threads::own;
    return context;
  }
  select();
  context.stream = stream();
  return context;
}

void Device::select() {
  if (!is_cpu()) check(backend->select(index));
}

void Device::check_launches() {
  if (!is_cpu()) check(backend->launch_error());
}

void* Device::stream() {
  if (is_cpu()) return nullptr;
  const auto chosen = chosen_streams.find(this);
  if (chosen != chosen_streams.end()) return chosen->second;
  std::call_once(own_stream_made_, [this] { own_stream_ = take_stream(); });
  return own_stream_;
}

void* Device::take_stream() {
  select();
  std::lock_guard guard(streams_lock_);
  if (idle_streams_.empty()) {
    void* made = nullptr;
    check(backend->create_stream(&made));
    streams_.insert(made);
    idle_streams_.reserve(streams_.size());  // giving back needs no memory: destructors do it
    return made;
  }
  void* const stream = idle_streams_.back();
  idle_streams_.pop_back();
  return stream;
}

void Device::give_back_stream(void* stream) {
  std::lock_guard guard(streams_lock_);
  idle_streams_.push_back(stream);
}

void Device::let_go(void* used, void* then) {
  bool stays = reinterpret_cast<uintptr_t>(used) <= 2;  // the default streams
  {
    std::lock_guard guard(streams_lock_);
    stays = stays || streams_.count(used);
  }
  stays ? order(used, then) : finish();
}

void Device::set_stream(void* stream) {
  if (stream)
    chosen_streams[this] = stream;
  else
    chosen_streams.erase(this);
}

void Device::order(void* first, void* then) {
  if (is_cpu() || first == then) return;
  select();
  void* event = nullptr;
  check(backend->create_event(&event));
  const char* problem = backend->record(event, first);
  if (!problem) problem = backend->wait(then, event);
  const std::string text = problem ? problem : "";
  backend->destroy_event(event);
  check(problem ? text.c_str() : nullptr);
}

void Device::synchronize() {
  if (is_cpu()) return;
  select();
  check(backend->synchronize(stream()));
}

void Device::finish() {
  if (is_cpu()) return;
  select();
  check(backend->finish());
}

void Device::copy(void* here, const void* from, size_t bytes) {
  if (!bytes) return;
  if (is_cpu()) {
    std::memcpy(here, from, bytes);
    return;
  }
  select();
  check(backend->copy(here, from, int64_t(bytes), stream()));
}

// Memory that is not pinned is staged by the driver before the copy function returns.
void Device::copy_in(void* here, const void* host, size_t bytes) { copy(here, host, bytes); }

void Device::copy_out(void* host, const void* here, size_t bytes) {
  copy(host, here, bytes);
  synchronize();
}

void Device::fill(void* here, int byte, size_t bytes) {
  if (!bytes) return;
  if (is_cpu()) {
    std::memset(here, byte, bytes);
    return;
  }
  select();
  check(backend->fill(here, byte, int64_t(bytes), stream()));
}

Device& cpu() {
  static auto* device = new Device("cpu", nullptr, 0);
  return *device;
}

Device& device_named(const std::string& wanted) {
  if (wanted == "cpu") return cpu();
  const size_t colon = wanted.find(':');
  Registry& r = registry();
  std::lock_guard guard(r.mutex);
  const auto backend = r.backends.find(wanted.substr(0, colon));
  if (backend == r.backends.end()) throw std::invalid_argument("device '" + wanted + "' is not open; there is 'cpu'");
  const std::string full = colon == std::string::npos ? wanted + ":0" : wanted;
  std::string names;
  for (const auto& device : backend->second) {
    if (device->name == full) return *device;
    names += (names.empty() ? "" : ", ") + device->name;
  }
  throw std::invalid_argument("device '" + wanted + "' does not exist; there are cpu, " + names);
}

std::vector<std::string> open_backend(const std::string& path) {
  Registry& r = registry();
  std::lock_guard guard(r.mutex);
  if (const auto known = r.opened.find(path); known != r.opened.end()) return known->second;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw DeviceError("cannot open " + path + ": " + dlerror());
  const auto entry = reinterpret_cast<const Backend* (*)()>(dlsym(library, "fastnn_backend"));
  if (!entry) throw DeviceError(path + " does not export fastnn_backend()");
  const Backend* backend = entry();
  if (backend->interface != backend_interface || backend->rows != row_count)
    throw DeviceError(path + " was built from another version of fastnn; run `pip install .` again");
  std::vector<std::string> names;
  auto& devices = r.backends[backend->name];
  if (!devices.empty()) {  // under another spelling of its path: arrays lie there
    for (const auto& device : devices) names.push_back(device->name);
    return r.opened[path] = names;
  }
  int count = 0;
  if (const char* problem = backend->open(&count)) throw DeviceError(problem);
  for (int i = 0; i < count; i++) {
    names.push_back(std::string(backend->name) + ":" + std::to_string(i));
    devices.push_back(std::make_unique<Device>(names.back(), backend, i));
  }
  r.opened[path] = names;
  return names;
}

void rethrow(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    throw OutOfMemory("fastnn: out of memory: the process has none left for lists of its own", 0, cpu().arena.free(),
                      cpu().arena.stats().allocated);
  }
}

Precision precision() { return chosen_precision; }
void set_precision(Precision p) { chosen_precision = p; }

bool winograd() { return winograd_allowed; }
void set_winograd(bool on) { winograd_allowed = on; }

int64_t past_caches_from() { return least_past_caches; }
void set_past_caches_from(int64_t bytes) { least_past_caches = bytes; }

}  // namespace fastnn
