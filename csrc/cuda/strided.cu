// A strided view made dense, and the way back.
#include "elements.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Zero {
  __device__ __forceinline__ T operator()() const { return T(0); }
};

enum Side : int { dense = 0, strided = 1 };  // the arrays of the view's space

Space<2> space_of(const Strided& s) {
  int64_t step[max_rank], n = 1;
  for (int d = s.rank - 1; d >= 0; d--) step[d] = n, n *= s.dims[d];
  Space<2> space;
  for (int d = 0; d < s.rank; d++) space.add(s.dims[d], {step[d], s.stride[d]});
  space.start[strided] = s.offset;
  return space;
}

Space<2> turned(const Space<2>& s) {  // the strided side first, where map_strided writes
  Space<2> t;
  for (int d = 0; d < s.rank; d++) t.add(s.dims[d], {s.stride[strided][d], s.stride[dense][d]});
  t.start[0] = s.start[strided], t.start[1] = s.start[dense];
  return t;
}

// --- transposition: planes of rows x columns, columns side by side on the dense side and rows side by side on the strided one

constexpr int tile_size = 32, tile_threads = 256, tile_lines = tile_threads / tile_size;

struct Planes {
  int64_t tiles;  // of all planes; 0: there are no such planes, or they are too small for tiles
  int64_t rows, columns, row_dense, column_strided;
  Divisor tiles_of_plane, tiles_of_row;
  Walk<2> walk;  // from plane to plane

  explicit Planes(const Space<2>& space) : tiles(0), walk(Space<2>{}) {
    int inner = space.rank - 1, across = inner - 1;
    while (across >= 0 && space.stride[strided][across] != 1) across--;
    if (across < 0 || space.inner_step(strided) == 1) return;
    rows = space.dims[across], columns = space.dims[inner];
    if (smaller(rows, columns) < 8 || rows * columns < 256) return;
    row_dense = space.stride[dense][across], column_strided = space.stride[strided][inner];
    Space<2> outer;
    for (int d = 0; d < inner; d++)
      if (d != across) outer.add(space.dims[d], {space.stride[dense][d], space.stride[strided][d]});
    for (int side : {dense, strided}) outer.start[side] = space.start[side];
    const int64_t in_row = divide_up(columns, tile_size), in_plane = in_row * divide_up(rows, tile_size), all = in_plane * outer.count();
    if (all == 0 || all > INT32_MAX) return;
    tiles = all, tiles_of_plane = Divisor(in_plane), tiles_of_row = Divisor(in_row), walk = Walk<2>(outer);
  }
};

struct Tile {
  T at[tile_size][tile_size + 1];  // [row][column]; one more, so that neither direction meets a bank twice
};

template <Side to_side>
__global__ void transpose(Planes p, const T* from, T* to) {
  const uint32_t plane = p.tiles_of_plane.divide(blockIdx.x), in_plane = blockIdx.x - plane * p.tiles_of_plane.value;
  const uint32_t tile_row = p.tiles_of_row.divide(in_plane), tile_column = in_plane - tile_row * p.tiles_of_row.value;
  const int64_t top = int64_t(tile_row) * tile_size, left = int64_t(tile_column) * tile_size;
  const int64_t rows = p.rows - top, columns = p.columns - left;  // that are left
  const Offsets<2> at = p.walk.at(plane);
  const int64_t dense_start = at.of[dense] + top * p.row_dense + left, strided_start = at.of[strided] + top + left * p.column_strided;
  const int lane = threadIdx.x % tile_size, line = threadIdx.x / tile_size;
  Tile& tile = shared<Tile>();
  const auto on_dense = [&](const auto& move) {  // lanes along a row
    UNROLL for (int r = line; r < tile_size; r += tile_lines) {
      if (r < rows && lane < columns) move(dense_start + r * p.row_dense + lane, tile.at[r][lane]);
    }
  };
  const auto on_strided = [&](const auto& move) {  // lanes along a column
    UNROLL for (int c = line; c < tile_size; c += tile_lines) {
      if (c < columns && lane < rows) move(strided_start + c * p.column_strided + lane, tile.at[lane][c]);
    }
  };
  const auto read = [&](int64_t i, T& element) { element = from[i]; };
  const auto write = [&](int64_t i, const T& element) { to[i] = element; };
  if constexpr (to_side == dense)
    on_strided(read);
  else
    on_dense(read);
  __syncthreads();
  if constexpr (to_side == dense)
    on_dense(write);
  else
    on_strided(write);
}

int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int d = 0; d < shape.rank; d++) n *= shape.d[d];
  return n;
}

}  // namespace

void copy(const Context& context, const Strided& s, const T* x, T* y) {
  const Space<2> space = space_of(s);
  const Planes planes(space);
  if (planes.tiles) return launch<Tile>(context, transpose<dense>, unsigned(planes.tiles), tile_threads, planes, x, y);
  map_strided(context, space, Itself{}, y, x);
}

void paste(const Context& context, const Strided& s, const T* part, T* whole) {
  const Space<2> space = space_of(s);
  const Planes planes(space);
  if (planes.tiles) return launch<Tile>(context, transpose<strided>, unsigned(planes.tiles), tile_threads, planes, part, whole);
  map_strided(context, turned(space), Itself{}, whole, part);
}

void copy_backward(const Context& context, const Strided& s, const T* dy, T* dx) {
  if (count(s.x) != count(s.y)) map_dense(context, count(s.x), Zero{}, dx);  // elements outside of the view
  paste(context, s, dy, dx);
}

}  // namespace fastnn::FASTNN_TABLE
