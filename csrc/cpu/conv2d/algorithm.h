// One way to compute a direction of conv2d. Each direction has an ordered list of them (conv2d.cpp); the first that accepts runs.
#pragma once
#include "../simd.h"

namespace fastnn::FASTNN_TABLE {

// How backward to the weight makes x of what was kept, where an algorithm does so: x = activation(gamma (in - mean) rstd + beta)
struct Normalized {
  const real *gamma, *beta;  // may be null
  const real *mean, *rstd;
};

// Operands by their part: x, w -> y forward; dy, w -> dx backward to the input; x, dy -> dw backward to the weight.
struct ConvOperands {
  const storage* in;
  const storage* with;
  const real* bias;  // forward only, may be null
  storage* out;
  const storage* residual = nullptr;       // where it is added: activation(sum + bias + residual); backward to the input dx + residual
  const Normalized* normalized = nullptr;  // backward to the weight alone
  real* dw = nullptr;
};
INLINE ConvOperands weight_operands(const storage* x, const storage* dy, real* dw, const Normalized* normalized = nullptr) {
  return {x, dy, nullptr, nullptr, nullptr, normalized, dw};
}

struct ConvAlgorithm {
  const char* name;
  bool (*accepts)(const Conv2d&);
  int64_t (*scratch_bytes)(const Context&, const Conv2d&);
  void (*run)(const Context&, const Conv2d&, const ConvOperands&, void* scratch);
  bool winograd = false;
  bool packs = false, adds = false;             // its packed weights can be kept; it takes a residual
  bool (*normalizes)(const Conv2d&) = nullptr;  // whether it makes a normalized x itself
};

// Whether padded copies (padded.h), whose offsets are int32, would be vast, or the phases of strides countless: such are for `plain`.
INLINE bool is_vast(const Conv2d& v) {
  const int64_t reach_h = (v.R - 1) * v.dilation_h + 1, reach_w = (v.S - 1) * v.dilation_w + 1;
  const double columns = double(v.W + v.pad_left + v.pad_right + reach_w), pixels = double(reach_h) * columns;
  const double channels = double(v.C > v.K ? v.C : v.K) / double(v.G);
  const bool mostly_padding = pixels > 4 * double(v.H) * double(v.W) && pixels * (channels < 64 ? 64 : channels) > (1 << 26);
  return mostly_padding || pixels * (columns < 1024 ? 8 : 1) > (1 << 26) || v.stride_h * v.stride_w > (1 << 16);
}

// Whether its packed weights can be kept: with more images, packing them anew hardly shows.
INLINE bool may_keep(const Conv2d& v) { return v.N <= 4; }

const ConvAlgorithm& forward_algorithm(const Context&, const Conv2d&);
const ConvAlgorithm& backward_input_algorithm(const Context&, const Conv2d&);
const ConvAlgorithm& backward_weight_algorithm(const Context&, const Conv2d&);

// direct_forward.cpp, direct_backward_input.cpp, direct_backward_weight.cpp
extern const ConvAlgorithm direct_small_c_forward, direct_taps3_forward, direct_forward;
extern const ConvAlgorithm direct_taps3_backward_input, direct_backward_input;
extern const ConvAlgorithm direct_small_c_backward_weight, direct_taps3_backward_weight, direct_backward_weight;
// winograd_sweep.cpp, winograd_backward_weight.cpp: 3x3, stride 1
extern const ConvAlgorithm winograd4_forward, winograd4_backward_input, winograd4_backward_weight;
extern const ConvAlgorithm winograd2_forward, winograd2_backward_input, winograd2_backward_weight;
// winograd_narrow.cpp: of one or two vectors of channels
extern const ConvAlgorithm winograd4_narrow_forward, winograd4_narrow_backward_input, winograd4_narrow_backward_weight;
// one_by_one.cpp: 1x1, stride 1
extern const ConvAlgorithm one_by_one_forward, one_by_one_backward_input;
// columns.cpp: windows about as large as the map
extern const ConvAlgorithm columns_backward_input;
// depthwise.cpp: one channel in and out per group
extern const ConvAlgorithm depthwise_forward, depthwise_backward_input, depthwise_backward_weight;
// plain.cpp: correct for everything
extern const ConvAlgorithm plain_forward, plain_backward_input, plain_backward_weight;

}  // namespace fastnn::FASTNN_TABLE
