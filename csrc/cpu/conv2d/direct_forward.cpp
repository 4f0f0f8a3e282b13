// Forward: one output phase, taps in the order of the weight.
#include "direct.h"

namespace fastnn::FASTNN_TABLE {
namespace {

Direct direct_of(const Conv2d& v, bool taps3) {
  Direct d;
  d.N = v.N, d.groups = v.G;
  d.taps = v.R * v.S, d.reach_h = (v.R - 1) * v.dilation_h + 1, d.reach_w = (v.S - 1) * v.dilation_w + 1;
  d.H = v.P, d.W = v.Q, d.step_h = d.step_w = 1;
  d.channels = v.K / v.G, d.pixel_stride = v.K;
  d.transposed_weights = true;
  d.taps3 = taps3;
  d.activation = v.activation;
  const int64_t channels = v.C / v.G, columns = (v.Q - 1) * v.stride_w + d.reach_w;
  const int pitch = taps3 ? N_LANES : pitch_of(channels);
  d.input = {v.H, v.W, v.C, channels, 1, -v.pad_top, -v.pad_left, columns, v.stride_h, v.stride_w, d.reach_h, d.reach_w, pitch};
  if (pitch == channels && v.stride_w == 1 && v.dilation_w == 1 && v.S * channels <= N_LANES) d.merged = v.S, d.taps = v.R;
  choose_blocks(d);
  return d;
}

template <bool taps3>
int64_t scratch_bytes(const Context& context, const Conv2d& v) {
  return direct_scratch_bytes(context, direct_of(v, taps3));
}

template <bool taps3>
void run(const Context& context, const Conv2d& v, const ConvOperands& operands, void* scratch) {
  if (v.N == 0) return;
  const Direct d = direct_of(v, taps3);
  const DirectTables tables = direct_tables(context, d, scratch);
  tables.phase[0] = {v.P, v.Q, 0, 0, d.taps};
  for (int64_t t = 0, columns = v.S / d.merged; t < d.taps; t++) {
    tables.tap[t] = int32_t(d.input.offset(t / columns * v.dilation_h, t % columns * v.dilation_w));
    tables.source[t] = int32_t(t);
  }
  run_direct(context, d, operands, scratch);
}

bool wide_enough(const Conv2d& v) { return v.G == 1 || v.K / v.G >= 4; }
bool accepts_small_c(const Conv2d& v) { return wide_enough(v) && v.C / v.G <= 4; }
bool accepts_taps3(const Conv2d& v) {
  return !on_tiles && wide_enough(v) && v.C / v.G > 4 && v.S == 3 && v.stride_w == 1 && v.dilation_w == 1;
}

}  // namespace

const ConvAlgorithm direct_small_c_forward = {"direct_small_c", accepts_small_c, scratch_bytes<false>, run<false>, false, true};
const ConvAlgorithm direct_taps3_forward = {PRODUCT("direct_taps3"), accepts_taps3, scratch_bytes<true>, run<true>, false, true};
const ConvAlgorithm direct_forward = {PRODUCT("direct"), wide_enough, scratch_bytes<false>, run<false>, false, true};

}  // namespace fastnn::FASTNN_TABLE
