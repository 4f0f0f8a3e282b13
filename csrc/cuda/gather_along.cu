// Elements taken along an axis by their index, and the sum of gradients back to where they came from.
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

enum Array : int { of_y = 0, of_x = 1, of_index = 2, arrays = 3 };  // of_x: at index 0

// Packs lie together in x and y, and have one index.
template <int width>
__global__ void take(Walk<arrays> walk, uint32_t count, int64_t x_step, const T* x, const i64* index, T* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<arrays> at = walk.at(position);
  store_pack(y + at.of[of_y], load_pack<width>(x + at.of[of_x] + index[at.of[of_index]] * x_step));
}

template <int width>
void take_packs(const Context& context, const Space<arrays>& space, int64_t x_step, const T* x, const i64* index, T* y) {
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, take<width>, unsigned(divide_up(count, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(count), x_step, x,
           index, y);
  });
}

// A thread has a line, to which nobody else adds: in the order of the index. Neighbouring threads have neighbouring lines.
__global__ void add_lines(Walk<arrays> walk, uint32_t lines, GatherAlong s, const i64* index, const T* dy, float* sum) {
  const uint32_t line = blockIdx.x * map_threads + threadIdx.x;
  if (line >= lines) return;
  const Offsets<arrays> at = walk.at(line);
  const int64_t index_step = s.flat ? 1 : s.y_step;
  for (int64_t j = 0; j < s.count; j++)
    sum[at.of[of_x] + index[at.of[of_index] + j * index_step] * s.x_step] += float(dy[at.of[of_y] + j * s.y_step]);
}

// Few and long lines: a block has one, a thread of it the elements whose number leaves its own when divided by the number of threads. All
// look at the whole index, a stretch of it at a time, and each adds what is its own, in the order of the index: the same sums.
struct Stretch {
  int64_t to[map_threads];
  float value[map_threads];
};

__global__ void add_long_lines(Walk<arrays> walk, GatherAlong s, const i64* index, const T* dy, float* sum) {
  Stretch& stretch = shared<Stretch>();
  const Offsets<arrays> at = walk.at(blockIdx.x);
  const int64_t index_step = s.flat ? 1 : s.y_step;
  for (int64_t begin = 0; begin < s.count; begin += map_threads) {
    const int64_t j = begin + threadIdx.x, n = smaller<int64_t>(map_threads, s.count - begin);
    __syncthreads();  // nobody reads the stretch before it any more
    if (j < s.count) {
      stretch.to[threadIdx.x] = index[at.of[of_index] + j * index_step];
      stretch.value[threadIdx.x] = float(dy[at.of[of_y] + j * s.y_step]);
    }
    __syncthreads();
    for (int k = 0; k < n; k++) {
      const int64_t to = stretch.to[k];
      if (uint32_t(to) % map_threads == threadIdx.x) sum[at.of[of_x] + to * s.x_step] += stretch.value[k];
    }
  }
}

// Lines, each by one thread, that keep a large GPU busy; and what a line must have for a block to be worth while
constexpr int64_t many_lines = 16384, long_line = 256;

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

bool has_few_long_lines(const GatherAlong& s) {
  int64_t lines = 1;
  for (int d = 0; d < s.rank; d++) lines *= s.dims[d];
  return lines < many_lines && s.count >= long_line;
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
  const bool packs = space.inner_size() % pack_width == 0 && space.steps_by(of_y, pack_width) && space.steps_by(of_x, pack_width) &&
                     space.inner_step(of_index) == 0 && s.x_step % pack_width == 0 && lie_in_packs<pack_width>(x, y);
  packs ? take_packs<pack_width>(context, space.in_packs(pack_width), s.x_step, x, index, y)
        : take_packs<1>(context, space, s.x_step, x, index, y);
}

Plan gather_backward_plan(const Context&, const GatherAlong& s) {
  return {has_few_long_lines(s) ? "long_lines" : "lines", sums_apart ? count_of(s.x) * int64_t(sizeof(float)) : 0};
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
      if (has_few_long_lines(s))
        return launch<Stretch>(context, add_long_lines, unsigned(lines), map_threads, Walk<arrays>(piece), s, index, dy, sum);
      launch(context, add_lines, unsigned(divide_up(lines, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(lines), s, index, dy,
             sum);
    });
  if (sums_apart) map_dense(context, n, Rounded{}, dx, sum);
}

}  // namespace fastnn::FASTNN_TABLE
