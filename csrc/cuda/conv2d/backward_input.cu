// conv2d backward to the input: rows are pixels of x, columns the input channels of a group, the depth is (r, s, k).
//
// dx at h takes dy at p = (h + pad - r dilation) / stride for the taps r that leave no rest. Which ones depends on h % stride alone, so
// the rows are taken in stride_h x stride_w phases; within a phase, h = phase + i stride, the taps are every `tap_step`-th from a first
// one on, and p = i + offset - j shift for tap number j: a convolution without a stride.
#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// One side of all phases
struct PhaseAxis {
  int stride, dilation, pad, taps, size, out_size;  // out_size: of y
  int tap_step;                                     // stride / gcd(stride, dilation)
  PhaseAxis(int64_t stride, int64_t dilation, int64_t pad, int64_t taps, int64_t size, int64_t out_size)
      : stride(int(stride)), dilation(int(dilation)), pad(int(pad)), taps(int(taps)), size(int(size)), out_size(int(out_size)) {
    tap_step = 1;
    while (tap_step * dilation % stride) tap_step++;
  }
};

struct Phase {  // one side of one
  int phase, positions, first_tap, taps;
  Axis axis;
  __device__ __forceinline__ Phase(const PhaseAxis& a, int phase) : phase(phase) {
    positions = phase < a.size ? (a.size - 1 - phase) / a.stride + 1 : 0;
    first_tap = 0;
    while (first_tap < a.tap_step && (phase + a.pad - first_tap * a.dilation) % a.stride) first_tap++;
    taps = first_tap < a.tap_step && first_tap < a.taps ? (a.taps - 1 - first_tap) / a.tap_step + 1 : 0;
    axis = {1, -(a.tap_step * a.dilation / a.stride), taps ? (phase + a.pad - first_tap * a.dilation) / a.stride : 0, a.out_size};
  }
};

// w of a group, seen along the depth: element (c, (j_r, j_s, k)) is w[k][r][s][c] of the phase's taps.
template <int vector_>
struct FilterColumns {
  static constexpr bool along_depth = false;
  static constexpr int vector = vector_;
  const T* w;               // at the first tap
  int64_t columns, filter;  // filter: elements of one output channel, R S C
  int64_t down, across;     // from one tap of the phase to the next
  int R;
  Radix taps;  // (j_r, j_s, k)

  using Place = LinePlace;
  using Shift = LineShift;
  using Cursor = Clock;
  __device__ __forceinline__ Shift row(int64_t i) const { return {i, i < columns}; }
  __device__ __forceinline__ Cursor cursor(int64_t k, int step) const { return {taps.of(k), taps.of(step)}; }
  __device__ __forceinline__ void next(Cursor& cursor) const { taps.add(cursor.now, cursor.step); }
  __device__ __forceinline__ Place step(const Cursor& cursor) const {
    const Digits& i = cursor.now;
    return {beyond(w, i.c * filter + i.a * down + i.b * across), i.a < R};
  }
  __device__ __forceinline__ Source at(const Place& place, const Shift& shift) const { return source_at(place, shift); }
};

// The phase's pixels of dx
struct PhaseTarget {
  using Element = T;
  static constexpr bool has_moments = false;
  static constexpr Activation activation = Activation::none;
  T* dx;              // at the phase's first pixel
  const float* bias;  // none
  bool whole;
  Radix pixels;
  int64_t image, down, across;  // from one pixel of the phase to the next
  __device__ __forceinline__ T* row(int64_t i) const {
    const Digits at = pixels.of(i);
    return dx + at.a * image + at.b * down + at.c * across;
  }
};

template <int vector>
struct BackwardInput {
  using Part = fastnn::FASTNN_TABLE::Part<WindowRows<vector>, FilterColumns<vector>, PhaseTarget>;
  const T* dy;
  const T* w;
  T* dx;
  int64_t N, C, K, group_C, group_K, W, S, filter, image;
  PhaseAxis down, across;
  bool whole;

  __device__ __forceinline__ Part part(int64_t slice) const {
    const int phases = down.stride * across.stride, number = int(slice % phases);
    const int64_t group = slice / phases;
    const Phase y(down, number / across.stride), x(across, number % across.stride);
    const Radix pixels = {larger(1, y.positions), larger(1, x.positions)}, taps = {larger(1, x.taps), int(group_K)};
    const Window window = {dy + group * group_K, N, K, pixels, taps, y.taps, y.axis, x.axis};
    const T* first = w + group * group_K * filter + (y.first_tap * S + x.first_tap) * group_C;
    const FilterColumns<vector> filters = {first, group_C, filter, down.tap_step * S * group_C, across.tap_step * group_C, y.taps, taps};
    const PhaseTarget target = {
        dx + (y.phase * W + x.phase) * C + group * group_C, nullptr, whole, pixels, image, int64_t(down.stride) * W * C, across.stride * C};
    return {{window}, filters, target, N * y.positions * x.positions, group_C, 0, int64_t(y.taps) * x.taps * group_K};
  }
};

template <int vector>
void run(const Context& context, const Conv2d& v, const T* dy, const T* w, T* dx) {
  const int64_t C = v.C / v.G, K = v.K / v.G, rows = v.N * divide_up(v.H, v.stride_h) * divide_up(v.W, v.stride_w);
  const BackwardInput<vector> problem = {dy,
                                         w,
                                         dx,
                                         v.N,
                                         v.C,
                                         v.K,
                                         C,
                                         K,
                                         v.W,
                                         v.S,
                                         v.R * v.S * C,
                                         v.H * v.W * v.C,
                                         PhaseAxis(v.stride_h, v.dilation_h, v.pad_top, v.R, v.H, v.P),
                                         PhaseAxis(v.stride_w, v.dilation_w, v.pad_left, v.S, v.W, v.Q),
                                         is_whole(dx, C)};
  const int64_t slices = v.G * v.stride_h * v.stride_w;
  const Vectors vectors(backward_vector(v), vector);
  with_way(context.precision, vectors, [&](auto way) {
    multiply<decltype(way), vector>(context, tile_size(rows, C, v.R * v.S * K / (v.stride_h * v.stride_w), slices, vectors), problem, rows,
                                    C, slices);
  });
}

}  // namespace

Plan conv2d_backward_input_plan(const Context& context, const Conv2d& v) {
  return {is_direct(v) ? direct_name(v) : implicit_gemm.of(context.precision, backward_vector(v)), 0};
}

void conv2d_backward_input(const Context& context, const Conv2d& v, const T* dy, const T* w, T* dx, void*) {
  if (is_direct(v)) return direct_backward_input(context, v, {dy, w, nullptr, dx});
  const bool whole = is_whole(dy, v.K / v.G) && is_whole(w, v.C / v.G);
  whole ? run<whole_vector>(context, v, dy, w, dx) : run<1>(context, v, dy, w, dx);
}

}  // namespace fastnn::FASTNN_TABLE
