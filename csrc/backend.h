// What a shared object with kernels for another device offers: one table per storage type, memory, streams and events.
// `_cuda` is built by nvcc; the tests build the same sources with g++ on a runtime that runs CUDA threads as fibers. Both export
// fastnn_backend() and are opened the same way. Functions that can fail return null, or what went wrong in one sentence, which stays
// valid until the thread's next call; nothing throws across this border.
#pragma once
#include "table.h"

namespace fastnn {

constexpr int backend_interface = 4;  // counts the changes of this struct

struct Backend {
  int interface, rows;  // backend_interface and row_count of its build
  const char* name;     // "cuda"

  const char* (*open)(int* devices);  // how many devices there are; fails when driver, devices and build do not fit
  const char* (*describe)(int device, char* text, int64_t length);  // "NVIDIA H200, compute capability 9.0"
  const char* (*memory)(int device, int64_t* free, int64_t* total);
  const char* (*locate)(const void* address, int* device);  // on which one memory lies; -1: on none
  const char* (*select)(int device);                        // of this thread, for what follows; kernels run there

  const char* (*allocate)(int64_t bytes, void** block);  // null in *block, and no failure, when there is not enough
  const char* (*release)(void* block);
  const char* (*pin)(int64_t bytes, void** block);  // memory of the host that copies need not wait for; a null block when there is none
  const char* (*unpin)(void* block);

  const char* (*create_stream)(void** stream);  // for as long as the process lives
  const char* (*synchronize)(void* stream);
  const char* (*finish)();  // all work of the device, whoever gave it
  const char* (*copy)(void* to, const void* from, int64_t bytes,
                      void* stream);  // either side may be the host's; may return before it is done
  const char* (*fill)(void* to, int byte, int64_t bytes, void* stream);

  const char* (*create_event)(void** event);
  const char* (*destroy_event)(void* event);
  const char* (*record)(void* event, void* stream);
  const char* (*wait)(void* stream, void* event);  // the stream, not the caller, waits
  const char* (*synchronize_event)(void* event);
  const char* (*elapsed)(void* first, void* second, float* milliseconds);

  const char* (*begin_graph)(void* stream);              // what this thread gives the stream is noted, not run
  const char* (*end_graph)(void* stream, void** graph);  // null in *graph, and a failure, when that could not be noted
  const char* (*launch_graph)(void* graph, void* stream);
  const char* (*destroy_graph)(void* graph);

  const char* (*launch_error)();     // of this thread's launches since the last call
  const Table* (*table)(int dtype);  // Dtype of the storage; null where there is none
};

}  // namespace fastnn

extern "C" const fastnn::Backend* fastnn_backend();
