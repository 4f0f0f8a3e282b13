// The part of the CUDA runtime that csrc/cuda/backend.cu calls. Everything happens at once and in order, on the calling thread; device
// memory is the host's, but only cudaMemcpyAsync, cudaMemsetAsync and kernels have business there.
//
// Tests see what becomes of trouble through the environment:
//   FASTNN_EMULATED_DRIVER=11.8    the CUDA that the driver serves (12.8, which the runtime is of); "none": no driver
//   FASTNN_EMULATED_GPUS=9.0,7.5   compute capabilities of the GPUs (two of 9.0); empty: none
//   FASTNN_EMULATED_MEMORY=bytes   of each GPU
//   FASTNN_EMULATED_FAIL=launch    every launch fails, or the function named here: cudaMemcpyAsync, cudaStreamSynchronize,
//                                  cudaStreamWaitEvent, cudaStreamBeginCapture, cudaStreamEndCapture
//   FASTNN_EMULATED_ARCHS=80_90a   what backend.cu takes itself to be built for
//   FASTNN_EMULATED_NAME=cuda      what its devices are called (cuda-emulated)
#pragma once
#include <cstddef>

#include "grid.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};

const char* cudaGetErrorString(cudaError_t error);  // for cudaErrorLaunchFailure, the sentence about this thread's last failed launch
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();  // forgets it
cudaError_t cudaPeekAtLastError();

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);

struct cudaFuncAttributes {
  int binaryVersion, maxThreadsPerBlock;
};
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel) {
  *attributes = {90, 1024};
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** block, size_t bytes);
cudaError_t cudaFree(void* block);
cudaError_t cudaMallocHost(void** block, size_t bytes);
cudaError_t cudaFreeHost(void* block);
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);  // of the current device

enum : unsigned { cudaHostAllocDefault = 0 };
inline cudaError_t cudaHostAlloc(void** block, size_t bytes, unsigned) { return cudaMallocHost(block, bytes); }

typedef struct EmulatedStream* cudaStream_t;
typedef struct EmulatedEvent* cudaEvent_t;
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum : unsigned { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum : unsigned { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t second);

// Graphs: between begin and end of a capture launches, copies and fills of this thread are noted and not run; what would have to wait or
// needs memory is an error, as is the default stream.
typedef struct EmulatedGraph* cudaGraph_t;
typedef struct EmulatedGraph* cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

namespace cuda_on_cpu {

cudaError_t launch(cudaStream_t stream, dim3 grid, dim3 block, int64_t shared_bytes, const std::function<void()>& kernel);
const char* last_message();  // about this thread's last failed launch

}  // namespace cuda_on_cpu
