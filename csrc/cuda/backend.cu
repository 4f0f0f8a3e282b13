// What fastnn sees of the CUDA runtime: devices, memory, streams, events, and the tables of kernels. The tests build it with g++ against
// tests/cuda_on_cpu. Every failure becomes one sentence, kept for the thread that met it.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "../backend.h"
#include "../dtype.h"

namespace fastnn {

namespace cuda_f32 {
extern const Table table;
}
namespace cuda_bf16 {
extern const Table table;
}

void note_launch(cudaError_t);
bool on_hopper();

namespace {

#if defined(FASTNN_CUDA_EMULATED)
const char* setting(const char* name, const char* otherwise) {  // of a test
  const char* value = getenv(name);
  return value ? value : otherwise;
}
const char* backend_name() { return setting("FASTNN_EMULATED_NAME", "cuda-emulated"); }
const char* architectures() { return setting("FASTNN_EMULATED_ARCHS", ""); }  // runs anywhere
#else
#define TEXT(x) TEXT_OF(x)
#define TEXT_OF(x) #x
const char* backend_name() { return "cuda"; }
const char* architectures() { return TEXT(FASTNN_CUDA_ARCHS); }  // "80_86_90a"
#endif

thread_local std::string message;
thread_local cudaError_t first_launch_error = cudaSuccess;

const char* say(std::string sentence) {
  message = std::move(sentence);
  return message.c_str();
}

// Null for success. The runtime keeps its last error for the next who asks: it is taken here, where it belongs.
const char* said(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();
  return say(std::string("CUDA could not ") + what + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")");
}

// --- which devices this build serves

struct Architecture {  // compute capability major.minor
  int major, minor;
  bool exact;  // 90a: instructions of this one chip, which no later one promises to have
  bool runs_on(int gpu_major, int gpu_minor) const { return major == gpu_major && (exact ? minor == gpu_minor : minor <= gpu_minor); }
};

constexpr int least_major = 8;  // cp.async, bfloat16 and TF32 on tensor cores

std::vector<Architecture> built_architectures() {
  std::vector<Architecture> all;
  for (const char* c = architectures(); *c;) {
    int number = 0;
    for (; *c >= '0' && *c <= '9'; ++c) number = number * 10 + (*c - '0');
    all.push_back({number / 10, number % 10, *c == 'a'});
    while (*c && !(*c >= '0' && *c <= '9')) ++c;
  }
  return all;
}

std::string built_text() {
  std::string text;
  for (const Architecture& a : built_architectures())
    text += (text.empty() ? "sm_" : ", sm_") + std::to_string(a.major * 10 + a.minor) + (a.exact ? "a" : "");
  return text.empty() ? "the CPU" : text;
}

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// Why the kernels do not run on this device; empty when they do.
std::string misfit(int device) {
  cudaDeviceProp gpu;
  if (const char* error = said(cudaGetDeviceProperties(&gpu, device), "describe the GPU")) return error;
  const std::vector<Architecture> all = built_architectures();
  bool runs = all.empty();
  for (const Architecture& a : all) runs = runs || a.runs_on(gpu.major, gpu.minor);
  if (runs) return "";
  const std::string capability = std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
  if (gpu.major < least_major)
    return "GPU " + std::to_string(device) + " (" + gpu.name + ") has compute capability " + capability + ", and fastnn's kernels need " +
           std::to_string(least_major) + ".0 or newer; train on the CPU";
  return std::string("this build of fastnn has CUDA kernels for ") + built_text() + ", and none that runs on GPU " +
         std::to_string(device) + " (" + gpu.name + ", compute capability " + capability +
         "); rebuild it in the checkout: `FASTNN_CUDA_ARCHS=" + std::to_string(gpu.major * 10 + gpu.minor) + " pip install .`";
}

struct Devices {
  std::vector<std::string> misfits;  // one per device
  std::string error;                 // when no device can be used
};

constexpr int oldest_driver = 12040;  // the first that unpacks kernels which nvcc compressed for size

Devices find_devices() {
  Devices found;
  int driver = 0, runtime = 0, count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0)
    found.error = "no NVIDIA driver was found; install one (nvidia-smi shows it when it works), or train on the CPU";
  else if (error == cudaErrorInsufficientDriver || driver < oldest_driver)
    found.error = "the NVIDIA driver is too old: it serves CUDA " + version_text(driver) + " and this build of fastnn needs CUDA " +
                  version_text(runtime) + "; update the driver, or rebuild fastnn with an older nvcc (12.8 at least)";
  else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    found.error = "an NVIDIA driver was found, but no GPU that it shows to this process; see nvidia-smi -L and CUDA_VISIBLE_DEVICES";
  else if (const char* failure = said(error, "count the GPUs"))
    found.error = failure;
  if (!found.error.empty()) {
    cudaGetLastError();
    return found;
  }
  bool any = false;
  for (int device = 0; device < count; ++device) {
    found.misfits.push_back(misfit(device));
    any = any || found.misfits.back().empty();
  }
  if (!any) found.error = found.misfits.front();
  return found;
}

const Devices& devices() {
  static const Devices found = find_devices();  // looked for once, by whichever thread comes first
  return found;
}

const char* open(int* count) {
  *count = int(devices().misfits.size());
  return devices().error.empty() ? nullptr : devices().error.c_str();
}

const char* describe(int device, char* text, int64_t length) {
  cudaDeviceProp gpu;
  if (const char* error = said(cudaGetDeviceProperties(&gpu, device), "describe the GPU")) return error;
  snprintf(text, size_t(length), "%s, compute capability %d.%d", gpu.name, gpu.major, gpu.minor);
  return nullptr;
}

const char* select(int device) {
  const std::vector<std::string>& misfits = devices().misfits;
  if (device >= 0 && device < int(misfits.size()) && !misfits[size_t(device)].empty()) return misfits[size_t(device)].c_str();
  return said(cudaSetDevice(device), "select the GPU");
}

const char* memory(int device, int64_t* free, int64_t* total) {
  int current = 0;
  if (const char* error = said(cudaGetDevice(&current), "name the current GPU")) return error;
  if (const char* error = select(device)) return error;
  size_t free_bytes = 0, total_bytes = 0;
  const cudaError_t asked = cudaMemGetInfo(&free_bytes, &total_bytes);
  const cudaError_t restored = cudaSetDevice(current);
  *free = int64_t(free_bytes);
  *total = int64_t(total_bytes);
  return said(asked == cudaSuccess ? restored : asked, "ask the GPU how much memory is free");
}

const char* locate(const void* address, int* device) {
  cudaPointerAttributes at;
  const char* error = said(cudaPointerGetAttributes(&at, address), "find out where memory lies");
  *device = !error && (at.type == cudaMemoryTypeDevice || at.type == cudaMemoryTypeManaged) ? at.device : -1;
  return error;
}

// --- memory

// No memory is no failure, but no block.
const char* given(cudaError_t error, void** block, const char* what) {
  if (error != cudaErrorMemoryAllocation) return said(error, what);
  *block = nullptr;
  cudaGetLastError();
  return nullptr;
}

const char* allocate(int64_t bytes, void** block) {
  *block = nullptr;
  return given(cudaMalloc(block, size_t(bytes)), block, "allocate memory");
}

const char* release(void* block) { return said(cudaFree(block), "free memory"); }

const char* pin(int64_t bytes, void** block) { return given(cudaMallocHost(block, size_t(bytes)), block, "allocate pinned memory"); }
const char* unpin(void* block) { return said(cudaFreeHost(block), "free pinned memory"); }

// --- streams: not the default one's kind, which would wait for each other

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

const char* create_stream(void** stream) {
  cudaStream_t made = nullptr;
  const char* error = said(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "create a stream");
  *stream = made;
  return error;
}
const char* synchronize(void* stream) { return said(cudaStreamSynchronize(stream_of(stream)), "finish the work on a stream"); }
const char* finish() { return said(cudaDeviceSynchronize(), "finish the work of the GPU"); }

const char* copy(void* to, const void* from, int64_t bytes, void* stream) {
  return said(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDefault, stream_of(stream)), "copy");
}
const char* fill(void* to, int byte, int64_t bytes, void* stream) {
  return said(cudaMemsetAsync(to, byte, size_t(bytes), stream_of(stream)), "fill memory");
}

// --- events

cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

const char* create_event(void** event) {
  cudaEvent_t made = nullptr;
  const char* error = said(cudaEventCreate(&made), "create an event");
  *event = made;
  return error;
}
const char* destroy_event(void* event) { return said(cudaEventDestroy(event_of(event)), "destroy an event"); }
const char* record(void* event, void* stream) { return said(cudaEventRecord(event_of(event), stream_of(stream)), "record an event"); }
const char* wait(void* stream, void* event) {
  return said(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "make a stream wait for an event");
}
const char* synchronize_event(void* event) { return said(cudaEventSynchronize(event_of(event)), "wait for an event"); }
const char* elapsed(void* first, void* second, float* milliseconds) {
  return said(cudaEventElapsedTime(milliseconds, event_of(first), event_of(second)), "take the time between two events");
}

// --- graphs

const char* begin_graph(void* stream) {
  return said(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal), "begin to note the work of a stream");
}
const char* end_graph(void* stream, void** graph) {
  cudaGraph_t noted = nullptr;
  cudaGraphExec_t ready = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream_of(stream), &noted);
  if (error == cudaSuccess) error = cudaGraphInstantiateWithFlags(&ready, noted, 0);
  if (noted) cudaGraphDestroy(noted);
  *graph = error == cudaSuccess ? ready : nullptr;
  return said(error, "make a graph of the work of a stream");
}
const char* launch_graph(void* graph, void* stream) {
  return said(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream)), "launch a graph");
}
const char* destroy_graph(void* graph) { return said(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)), "destroy a graph"); }

// --- kernels

const char* launch_error() {
  const cudaError_t error = first_launch_error;
  first_launch_error = cudaSuccess;
  return said(error, "launch a kernel");
}

const Table* table(int dtype) {
  switch (Dtype(dtype)) {
    case Dtype::float32: return &cuda_f32::table;
    case Dtype::bfloat16: return &cuda_bf16::table;
    default: return nullptr;
  }
}

const Backend& backend() {
  // clang-format off
  static const Backend filled = {
      backend_interface, row_count, backend_name(),
      open, describe, memory, locate, select,
      allocate, release, pin, unpin,
      create_stream, synchronize, finish, copy, fill,
      create_event, destroy_event, record, wait, synchronize_event, elapsed,
      begin_graph, end_graph, launch_graph, destroy_graph,
      launch_error, table,
  };
  // clang-format on
  return filled;
}

}  // namespace

bool on_hopper() {
  static const std::vector<bool> hoppers = [] {
    std::vector<bool> all(devices().misfits.size());
    for (size_t i = 0; i < all.size(); i++) {
      cudaDeviceProp gpu;
      all[i] = !said(cudaGetDeviceProperties(&gpu, int(i)), "describe the GPU") && gpu.major == 9 && gpu.minor == 0;
    }
    return all;
  }();
  int device = 0;
  return !said(cudaGetDevice(&device), "name the current GPU") && size_t(device) < hoppers.size() && hoppers[size_t(device)];
}

void note_launch(cudaError_t error) {
  if (first_launch_error == cudaSuccess) first_launch_error = error;
}

}  // namespace fastnn

extern "C" __attribute__((visibility("default"))) const fastnn::Backend* fastnn_backend() { return &fastnn::backend(); }
