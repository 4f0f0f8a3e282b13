// Forward by whole windows: a direct convolution of one tap of all their numbers.
#include "first_layers.h"

#include "../cpu/conv2d/direct.h"

namespace fastnn::FASTNN_TABLE {
namespace {

Direct direct_of(const Conv2d& v) {
  Direct d;
  d.N = v.N, d.groups = 1;
  d.taps = d.reach_h = d.reach_w = 1;
  d.H = v.P, d.W = v.Q, d.step_h = d.step_w = 1;
  d.channels = d.pixel_stride = v.K;
  d.transposed_weights = true;
  d.taps3 = false;
  d.activation = v.activation;
  d.input = {v.H, v.W, v.C, v.R * v.S * v.C, 1, -v.pad_top, -v.pad_left, v.Q, 1, 1, 1, 1, N_LANES};
  d.input.window = {v.R, v.S, v.stride_h, v.stride_w, v.Q};
  d.input.pitch = int(d.input.planes()) * N_LANES;
  choose_blocks(d);
  return d;
}

int64_t scratch_bytes(const Context& context, const Conv2d& v) { return direct_scratch_bytes(context, direct_of(v)); }

void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  if (v.N == 0) return;
  const Direct d = direct_of(v);
  const DirectTables tables = direct_tables(context, d, scratch);
  tables.phase[0] = {v.P, v.Q, 0, 0, 1};
  tables.tap[0] = tables.source[0] = 0;
  run_direct(context, d, operands, scratch);
}

}  // namespace

const ConvAlgorithm direct_windows_forward = {PRODUCT("windows"), of_whole_windows, scratch_bytes, run, false, true};

}  // namespace fastnn::FASTNN_TABLE
