// For functions that CPU kernels, CUDA kernels and the core all compile.
#pragma once

#if defined(__CUDACC__)
#define FASTNN_SHARED __host__ __device__ __forceinline__
#else
#define FASTNN_SHARED __attribute__((always_inline)) inline
#endif
