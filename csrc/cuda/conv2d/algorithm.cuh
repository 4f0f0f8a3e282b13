// What the three directions of a convolution share: which form runs, and what it is called.
#pragma once
#include "window.cuh"

namespace fastnn::FASTNN_TABLE {

struct ConvOperands {  // x, w -> y forward; dy, w -> dx backward to the input
  const T* in;
  const T* with;
  const float* bias;
  T* out;
};

// direct.cu: groups of a few channels, for which most of a tile would be empty
#pragma GCC visibility push(hidden)
bool is_direct(const Conv2d&);
const char* direct_name(const Conv2d&);
int64_t direct_weight_scratch(const Conv2d&);
void direct_forward(const Context&, const Conv2d&, const ConvOperands&);
void direct_backward_input(const Context&, const Conv2d&, const ConvOperands&);
void direct_backward_weight(const Context&, const Conv2d&, const T* x, const T* dy, R* dw, void* scratch);
// forward.cu: all others; with `sections`, the moments of y's columns are left there
void gemm_forward(const Context&, const Conv2d&, const ConvOperands&, Section* sections);
#pragma GCC visibility pop

namespace {

constexpr WayNames implicit_gemm = WAY_NAMES("implicit_gemm");

// How many neighbours the shape lets be copied at once: forward, those of x; backward, those of x and dy.
inline int vector_of(int64_t channels) { return channels % whole_vector ? 1 : whole_vector; }
inline int forward_vector(const Conv2d& v) { return vector_of(v.C / v.G); }
inline int backward_vector(const Conv2d& v) { return smaller(vector_of(v.C / v.G), vector_of(v.K / v.G)); }

// Whether `channels` contiguous elements at each pixel can be copied whole.
inline bool is_whole(const void* p, int64_t channels) { return channels % whole_vector == 0 && is_aligned(p, 16); }

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
