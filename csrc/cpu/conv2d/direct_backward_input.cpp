// Backward to the input: dx[h] = sum over r of dy[(h + pad - r dilation) / stride] w[r], where the division leaves no rest.
// Output phase f = h mod stride meets the taps with r dilation = f + pad (mod stride), so each tap belongs to one phase.
#include "direct.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// ceil(a / b) for b > 0
int64_t ceiling(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

// One axis: the row of dy that tap r reads for the first output of its phase, and that phase.
struct Axis {
  int64_t pad, dilation, stride, window;
  int64_t row(int64_t r) const { return ceiling(pad - r * dilation, stride); }
  int64_t phase(int64_t r) const { return row(r) * stride - (pad - r * dilation); }
  int64_t first_row() const { return row(window - 1); }
  int64_t reach() const { return row(0) - first_row() + 1; }
};

Axis vertical(const Conv2d& v) { return {v.pad_top, v.dilation_h, v.stride_h, v.R}; }
Axis horizontal(const Conv2d& v) { return {v.pad_left, v.dilation_w, v.stride_w, v.S}; }

Direct direct_of(const Conv2d& v, bool taps3) {
  const Axis down = vertical(v), across = horizontal(v);
  Direct d;
  d.N = v.N, d.groups = v.G;
  d.taps = v.R * v.S, d.reach_h = down.reach(), d.reach_w = across.reach();
  d.H = v.H, d.W = v.W, d.step_h = v.stride_h, d.step_w = v.stride_w;
  d.channels = v.C / v.G, d.pixel_stride = v.C;
  d.transposed_weights = false;
  d.taps3 = taps3;
  d.activation = Activation::none;
  const int64_t channels = v.K / v.G, columns = divide_up(v.W, v.stride_w) - 1 + d.reach_w;
  d.input = {v.P, v.Q, v.K, channels, 1, down.first_row(), across.first_row(), columns, 1, 1, 1, 1, taps3 ? N_LANES : pitch_of(channels)};
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
  const Axis down = vertical(v), across = horizontal(v);
  int64_t count = 0;
  for (int64_t f = 0; f < v.stride_h * v.stride_w; f++) {
    const int64_t h = f / v.stride_w, w = f % v.stride_w;
    OutputPhase& phase = tables.phase[f];
    phase = {h < v.H ? divide_up(v.H - h, v.stride_h) : 0, w < v.W ? divide_up(v.W - w, v.stride_w) : 0, (h * v.W + w) * v.C, count, 0};
    for (int64_t r = v.R - 1; r >= 0; r--)  // flipped: from the left and top
      for (int64_t s = v.S - 1; s >= 0; s--) {
        if (down.phase(r) != h || across.phase(s) != w) continue;
        tables.tap[count] = int32_t(d.input.offset(down.row(r) - down.first_row(), across.row(s) - across.first_row()));
        tables.source[count++] = int32_t(r * v.S + s);
      }
    phase.taps = count - phase.first_tap;
  }
  run_direct(context, d, operands, scratch);
}

bool wide_enough(const Conv2d& v) { return v.G == 1 || v.C / v.G >= 4; }
// A stride in height alone would part the rows of taps, but never the three neighbours.
bool accepts_taps3(const Conv2d& v) {
  return !on_tiles && wide_enough(v) && v.K / v.G > 4 && v.S == 3 && v.stride_w == 1 && v.dilation_w == 1;
}

}  // namespace

const ConvAlgorithm direct_taps3_backward_input = {PRODUCT("direct_taps3"), accepts_taps3, scratch_bytes<true>, run<true>};
const ConvAlgorithm direct_backward_input = {PRODUCT("direct"), wide_enough, scratch_bytes<false>, run<false>};

}  // namespace fastnn::FASTNN_TABLE
