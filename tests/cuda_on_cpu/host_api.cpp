#include "host_api.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

struct EmulatedStream {
  int device;
};
struct EmulatedGraph {
  std::vector<std::function<cudaError_t()>> work;
  bool broken = false;  // something was asked for that cannot be noted
};
struct EmulatedEvent {
  int device;
  bool timed;
  std::chrono::steady_clock::time_point recorded;
};

namespace {

constexpr int most_devices = 8;
constexpr int64_t max_shared_bytes = 227 * 1024;

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string launch_message;
thread_local EmulatedGraph* noting = nullptr;  // begun by this thread

cudaError_t noted(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t cannot_be_noted() {
  noting->broken = true;
  return noted(cudaErrorStreamCaptureUnsupported);
}

std::string setting(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

size_t device_memory() { return strtoull(setting("FASTNN_EMULATED_MEMORY", "8589934592").c_str(), nullptr, 10); }

bool must_fail(const char* function) { return setting("FASTNN_EMULATED_FAIL", "") == function; }

struct Version {
  int major = 0, minor = 0;
  int number() const { return 1000 * major + 10 * minor; }  // as CUDA counts
};

constexpr Version runtime_version = {12, 8};

Version driver_version() {
  Version version;
  sscanf(setting("FASTNN_EMULATED_DRIVER", "12.8").c_str(), "%d.%d", &version.major, &version.minor);
  return version;
}

const std::vector<Version>& gpus() {  // their compute capabilities
  static const auto& all = *new auto([] {
    std::vector<Version> found;
    Version gpu;
    for (std::istringstream text(setting("FASTNN_EMULATED_GPUS", "9.0,8.0")); found.size() < most_devices; text.ignore()) {
      char point;
      if (!(text >> gpu.major >> point >> gpu.minor)) break;
      found.push_back(gpu);
    }
    return found;
  }());
  return all;
}

bool exists(int device) { return device >= 0 && device < int(gpus().size()); }

bool is_default(cudaStream_t stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }  // null, cudaStreamLegacy, cudaStreamPerThread

// Everything that was handed out and not yet given back.
struct Ledger {
  struct Block {
    size_t bytes;
    int device;  // -1: pinned memory of the host
  };
  std::mutex lock;
  std::map<void*, Block> blocks;
  size_t used[most_devices] = {};
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::map<cudaStream_t, EmulatedGraph*> noted;  // by whichever thread: what any thread gives the stream goes there

  bool has(cudaStream_t stream) {
    const std::lock_guard<std::mutex> guard(lock);
    return is_default(stream) || streams.count(stream);
  }
  bool has(cudaEvent_t event) {
    const std::lock_guard<std::mutex> guard(lock);
    return events.count(event);
  }
};

Ledger& ledger() {
  static Ledger& all = *new Ledger;  // outlives the threads that give back at exit
  return all;
}

// Exactly as large as asked for, so that AddressSanitizer sees the first byte too far, and full of NaN.
cudaError_t take(void** block, size_t bytes, int device) {
  *block = nullptr;
  if (noting) return cannot_be_noted();
  if (!bytes) return cudaSuccess;
  Ledger& all = ledger();
  const std::lock_guard<std::mutex> guard(all.lock);
  if (device >= 0 && bytes > device_memory() - all.used[device]) return noted(cudaErrorMemoryAllocation);
  if (posix_memalign(block, 256, bytes)) return noted(cudaErrorMemoryAllocation);
  memset(*block, 0xFF, bytes);
  if (device >= 0) all.used[device] += bytes;
  all.blocks[*block] = {bytes, device};
  return cudaSuccess;
}

cudaError_t give_back(void* block, bool of_device) {
  if (!block) return cudaSuccess;
  Ledger& all = ledger();
  const std::lock_guard<std::mutex> guard(all.lock);
  const auto found = all.blocks.find(block);
  if (found == all.blocks.end() || (found->second.device >= 0) != of_device) return noted(cudaErrorInvalidValue);
  if (of_device) all.used[found->second.device] -= found->second.bytes;
  all.blocks.erase(found);
  free(block);
  return cudaSuccess;
}

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
const ErrorText error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
};
const ErrorText& text_of(cudaError_t error) {
  static const ErrorText unknown = {cudaErrorInvalidValue, "cudaErrorUnknown", "unknown error"};
  for (const ErrorText& text : error_texts)
    if (text.error == error) return text;
  return unknown;
}

// While a thread notes a stream, whatever else it does would be lost from the graph.
cudaError_t done_or_noted(cudaStream_t stream, std::function<cudaError_t()> work) {
  {
    const std::lock_guard<std::mutex> guard(ledger().lock);
    const auto found = ledger().noted.find(stream);
    if (found != ledger().noted.end()) {
      found->second->work.push_back(std::move(work));
      return cudaSuccess;
    }
  }
  return noting ? cannot_be_noted() : work();
}

cudaError_t checked(bool fine, cudaError_t otherwise = cudaErrorInvalidResourceHandle) { return fine ? cudaSuccess : noted(otherwise); }

}  // namespace

// --- errors

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure && !launch_message.empty() ? launch_message.c_str() : text_of(error).text;
}
const char* cudaGetErrorName(cudaError_t error) { return text_of(error).name; }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

// --- devices

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (driver_version().major < runtime_version.major) return noted(cudaErrorInsufficientDriver);
  *count = int(gpus().size());
  return *count ? cudaSuccess : noted(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!exists(device)) return noted(cudaErrorInvalidDevice);
  *properties = {};
  snprintf(properties->name, sizeof properties->name, "CPU running CUDA threads as fibers");
  properties->totalGlobalMem = device_memory();
  properties->major = gpus()[size_t(device)].major;
  properties->minor = gpus()[size_t(device)].minor;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (!exists(device)) return noted(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return must_fail("cudaDeviceSynchronize") ? noted(cudaErrorLaunchFailure) : cudaSuccess; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = driver_version().number();
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = runtime_version.number();
  return cudaSuccess;
}

// --- memory

cudaError_t cudaMalloc(void** block, size_t bytes) { return take(block, bytes, current_device); }
cudaError_t cudaFree(void* block) { return give_back(block, true); }
cudaError_t cudaMallocHost(void** block, size_t bytes) { return take(block, bytes, -1); }
cudaError_t cudaFreeHost(void* block) { return give_back(block, false); }

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  Ledger& all = ledger();
  const std::lock_guard<std::mutex> guard(all.lock);
  *attributes = {cudaMemoryTypeUnregistered, -1};
  auto after = all.blocks.upper_bound(const_cast<void*>(address));
  if (after == all.blocks.begin()) return cudaSuccess;
  const auto& [start, block] = *--after;
  if (static_cast<const char*>(address) < static_cast<const char*>(start) + block.bytes)
    *attributes = {block.device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice, block.device < 0 ? 0 : block.device};
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Ledger& all = ledger();
  const std::lock_guard<std::mutex> guard(all.lock);
  *total = device_memory();
  *free = *total - all.used[current_device];
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (!ledger().has(stream)) return noted(cudaErrorInvalidResourceHandle);
  if (bytes && (!to || !from)) return noted(cudaErrorInvalidValue);
  if (must_fail("cudaMemcpyAsync")) return noted(cudaErrorInvalidValue);
  return done_or_noted(stream, [=] {
    if (bytes) memmove(to, from, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  if (!ledger().has(stream)) return noted(cudaErrorInvalidResourceHandle);
  if (bytes && !to) return noted(cudaErrorInvalidValue);
  return done_or_noted(stream, [=] {
    if (bytes) memset(to, byte, bytes);
    return cudaSuccess;
  });
}

// --- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream{current_device};
  const std::lock_guard<std::mutex> guard(ledger().lock);
  ledger().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (noting) return cannot_be_noted();
  return must_fail("cudaStreamSynchronize") ? noted(cudaErrorLaunchFailure) : checked(ledger().has(stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return checked(ledger().has(stream)); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (must_fail("cudaStreamWaitEvent")) return noted(cudaErrorInvalidValue);
  return checked(ledger().has(stream) && ledger().has(event));
}

// --- events

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new EmulatedEvent{current_device, !(flags & cudaEventDisableTiming), {}};
  const std::lock_guard<std::mutex> guard(ledger().lock);
  ledger().events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard<std::mutex> guard(ledger().lock);
  if (!ledger().events.erase(event)) return noted(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!ledger().has(event) || !ledger().has(stream)) return noted(cudaErrorInvalidResourceHandle);
  if (!is_default(stream) && stream->device != event->device) return noted(cudaErrorInvalidResourceHandle);
  event->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return checked(ledger().has(event)); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return checked(ledger().has(event)); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t second) {
  if (!ledger().has(first) || !ledger().has(second)) return noted(cudaErrorInvalidResourceHandle);
  const std::chrono::steady_clock::time_point never{};
  if (!first->timed || !second->timed || first->recorded == never || second->recorded == never)
    return noted(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(second->recorded - first->recorded).count();
  return cudaSuccess;
}

// --- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (noting || is_default(stream) || must_fail("cudaStreamBeginCapture")) return noted(cudaErrorStreamCaptureUnsupported);
  if (!ledger().has(stream)) return noted(cudaErrorInvalidResourceHandle);
  const std::lock_guard<std::mutex> guard(ledger().lock);
  if (ledger().noted.count(stream)) return noted(cudaErrorStreamCaptureUnsupported);
  ledger().noted[stream] = noting = new EmulatedGraph;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::lock_guard<std::mutex> guard(ledger().lock);
  const auto found = ledger().noted.find(stream);
  if (found == ledger().noted.end() || found->second != noting) return noted(cudaErrorInvalidValue);
  EmulatedGraph* all = noting;
  ledger().noted.erase(found);
  noting = nullptr;
  if (!all->broken && !must_fail("cudaStreamEndCapture")) {
    *graph = all;
    return cudaSuccess;
  }
  delete all;
  return noted(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = new EmulatedGraph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (!ledger().has(stream)) return noted(cudaErrorInvalidResourceHandle);
  for (const auto& work : graph->work)
    if (const cudaError_t error = work()) return error;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

// --- kernels

namespace cuda_on_cpu {

cudaError_t run(dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel) {
  const char* message = must_fail("launch") ? "FASTNN_EMULATED_FAIL asks for it" : run_grid(grid, block, shared_bytes, kernel);
  if (!message) return cudaSuccess;
  launch_message = message;
  return noted(cudaErrorLaunchFailure);
}

cudaError_t launch(cudaStream_t stream, dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel) {
  const bool grid_fits = grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const bool block_fits = threads > 0 && threads <= 1024 && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  if (!grid_fits || !block_fits) return noted(cudaErrorInvalidConfiguration);
  if (shared_bytes < 0 || shared_bytes > max_shared_bytes) return noted(cudaErrorInvalidValue);
  return done_or_noted(stream, [=] { return run(grid, block, shared_bytes, kernel); });
}

const char* last_message() { return launch_message.c_str(); }

}  // namespace cuda_on_cpu
