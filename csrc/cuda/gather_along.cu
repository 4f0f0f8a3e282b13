// Elements taken along an axis by their index, and the sum of gradients back to where they came from.
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

enum Array : int { of_y = 0, of_x = 1, of_index = 2, arrays = 3 };  // of_x: at index 0

__global__ void take(Walk<arrays> walk, uint32_t count, int64_t x_step, const T* x, const i64* index, T* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<arrays> at = walk.at(position);
  y[at.of[of_y]] = x[at.of[of_x] + index[at.of[of_index]] * x_step];
}

// A thread has a line, to which nobody else adds: in the order of the index.
__global__ void add_lines(Walk<arrays> walk, uint32_t lines, GatherAlong s, const i64* index, const T* dy, float* sum) {
  const uint32_t line = blockIdx.x * map_threads + threadIdx.x;
  if (line >= lines) return;
  const Offsets<arrays> at = walk.at(line);
  const int64_t index_step = s.flat ? 1 : s.y_step;
  for (int64_t j = 0; j < s.count; j++)
    sum[at.of[of_x] + index[at.of[of_index] + j * index_step] * s.x_step] += float(dy[at.of[of_y] + j * s.y_step]);
}

struct Zero {
  __device__ __forceinline__ float operator()() const { return 0; }
};
struct Rounded {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

int64_t count_of(const Shape& shape) {
  int64_t n = 1;
  for (int d = 0; d < shape.rank; d++) n *= shape.d[d];
  return n;
}

void add_line_dimensions(const GatherAlong& s, Space<arrays>& space) {
  for (int d = 0; d < s.rank; d++) space.add(s.dims[d], {s.y_stride[d], s.x_stride[d], s.flat ? 0 : s.y_stride[d]});
}

constexpr bool sums_apart = sizeof(T) != sizeof(float);  // sums are float32, and rounded once

}  // namespace

void gather_forward(const Context& context, const GatherAlong& s, const T* x, const i64* index, T* y) {
  Space<arrays> space;
  const bool axis_first = s.rank > 0 && s.y_stride[s.rank - 1] < s.y_step;
  const auto add_axis = [&] { space.add(s.count, {s.y_step, 0, s.flat ? 1 : s.y_step}); };
  if (axis_first) add_axis();
  add_line_dimensions(s, space);
  if (!axis_first) add_axis();
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, take, unsigned(divide_up(count, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(count), s.x_step, x, index,
           y);
  });
}

Plan gather_backward_plan(const Context&, const GatherAlong& s) {
  return {"lines", sums_apart ? count_of(s.x) * int64_t(sizeof(float)) : 0};
}

void gather_backward(const Context& context, const GatherAlong& s, const i64* index, const T* dy, T* dx, void* scratch) {
  const int64_t n = count_of(s.x);
  float* const sum = static_cast<float*>(sums_apart ? scratch : dx);
  map_dense(context, n, Zero{}, sum);
  Space<arrays> space;
  add_line_dimensions(s, space);
  if (s.count)
    for_pieces(space, [&](const auto& piece) {
      const int64_t lines = piece.count();
      launch(context, add_lines, unsigned(divide_up(lines, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(lines), s, index, dy,
             sum);
    });
  if (sums_apart) map_dense(context, n, Rounded{}, dx, sum);
}

}  // namespace fastnn::FASTNN_TABLE
