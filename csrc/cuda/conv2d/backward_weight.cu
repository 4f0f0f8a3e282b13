// conv2d backward to the weight: rows are the output channels of a group, columns are (r, s, c), the depth is the pixels of y. Few tiles
// and a long depth: it is cut into parts, whose sums are combined in their order by a second launch.
#include "algorithm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

template <int dy_vector, int x_vector>
struct BackwardWeight {
  using Part = fastnn::FASTNN_TABLE::Part<Matrix<false, dy_vector>, WindowColumns<x_vector>, RowTarget<float>>;
  Window window;
  const T* dy;
  float* sums;  // [group][part][K / G][R S C / G]
  int64_t K, group_K, columns, depth, parts, length;
  bool whole;

  __device__ __forceinline__ Part part(int64_t slice) const {
    const int64_t group = slice / parts, begin = slice % parts * length;
    Window own = window;
    own.map += group * window.taps.C;
    const RowTarget<float> target = {sums + slice * group_K * columns, columns, nullptr, Activation::none, whole};
    return {{dy + group * group_K, group_K, depth, K}, {own}, target, group_K, columns, begin, smaller(depth, begin + length)};
  }
};

struct WeightCut {
  int64_t rows, columns, depth;
  Split split;
  bool at_once;  // the sums of the only part are dw
  explicit WeightCut(const Conv2d& v)
      : rows(v.K / v.G),
        columns(v.R * v.S * v.C / v.G),
        depth(v.N * v.P * v.Q),
        split(depth, Tiles(backward_vector(v))[size(v, backward_vector(v))].count(rows, columns) * v.G),
        at_once(split.count == 1) {}
  TileSize size(const Conv2d& v, Vectors vectors) const { return split_tile_size(rows, columns, depth, v.G, vectors); }
  int64_t scratch_bytes(const Conv2d& v) const { return at_once ? 0 : v.G * split.count * rows * columns * int64_t(sizeof(float)); }
};

template <int dy_vector, int x_vector>
void run(const Context& context, const Conv2d& v, const T* x, const T* dy, R* dw, float* partial) {
  constexpr int vector = dy_vector < x_vector ? dy_vector : x_vector;
  const WeightCut cut(v);
  float* sums = cut.at_once ? dw : partial;
  const bool whole = cut.columns % 4 == 0 && is_aligned(sums, 16);
  const BackwardWeight<dy_vector, x_vector> problem = {
      forward_window(v, x), dy, sums, v.K, cut.rows, cut.columns, cut.depth, cut.split.count, cut.split.length, whole};
  const int64_t slices = v.G * cut.split.count;
  const Vectors vectors(backward_vector(v), vector);
  with_way(context.precision, vectors,
           [&](auto way) { multiply<decltype(way), vector>(context, cut.size(v, vectors), problem, cut.rows, cut.columns, slices); });
  if (!cut.at_once) combine(context, {partial, cut.rows * cut.columns, 1, cut.split.count, v.G}, nullptr, dw);
}

}  // namespace

Plan conv2d_backward_weight_plan(const Context& context, const Conv2d& v) {
  if (is_direct(v)) return {direct_name(v), direct_weight_scratch(v)};
  return {implicit_gemm.of(context.precision, backward_vector(v)), WeightCut(v).scratch_bytes(v)};
}

void conv2d_backward_weight(const Context& context, const Conv2d& v, const T* x, const T* dy, R* dw, void* scratch) {
  if (is_direct(v)) return direct_backward_weight(context, v, x, dy, dw, scratch);
  float* partial = static_cast<float*>(scratch);
  if (!is_whole(dy, v.K / v.G)) return run<1, 1>(context, v, x, dy, dw, partial);
  is_whole(x, v.C / v.G) ? run<whole_vector, whole_vector>(context, v, x, dy, dw, partial)
                         : run<whole_vector, 1>(context, v, x, dy, dw, partial);
}

}  // namespace fastnn::FASTNN_TABLE
