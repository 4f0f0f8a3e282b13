// Sums and maxima over any set of dimensions. x is dense, so its innermost dimension is either kept, and a thread has a pack of outputs
// side by side, or reduced, and packs lie along it ("folded"). Either way x is seen as groups of rows x columns.
#include "columns.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// The offset of an element of a strided array, given its row-major position.
__device__ __forceinline__ int64_t offset_of(int rank, const int64_t* dims, const int64_t* stride, int64_t position) {
  int64_t offset = 0;
  for (int d = rank - 1; d > 0; d--) {
    offset += position % dims[d] * stride[d];
    position /= dims[d];
  }
  return rank > 0 ? offset + position * stride[0] : 0;
}

// x as matrices: a group has the outputs that lie side by side (or one, folded), a row is an element of what is reduced (or a pack).
struct Matrices {
  Reduce s;
  int outer_kept;      // the kept dimensions that tell groups apart
  int64_t out_stride;  // from column to column
  Columns cut;

  Matrices(const Reduce& reduce, int64_t most_blocks) : s(reduce), cut(0, 0, 0, 1) {
    const bool side_by_side = s.kept_rank > 0 && s.kept_stride[s.kept_rank - 1] == 1;
    outer_kept = s.kept_rank - side_by_side;
    out_stride = side_by_side ? s.kept_out_stride[outer_kept] : 0;
    int64_t C = side_by_side ? s.kept[outer_kept] : 1;
    const int64_t groups = C ? s.kept_count / C : 0;
    const int last = s.reduced_rank - 1;
    const bool folded = !side_by_side && last >= 0 && s.reduced[last] % whole_pack == 0;
    if (folded) {
      C = whole_pack;
      s.reduced[last] /= C, s.reduced_stride[last] *= C, s.reduced_count /= C;
    }
    cut = Columns(groups, s.reduced_count, C, most_blocks);
    cut.folded = folded;
  }

  __device__ int64_t offset_of_group(int64_t group) const { return offset_of(outer_kept, s.kept, s.kept_stride, group); }
  __device__ int64_t offset_of_row(int64_t row) const { return offset_of(s.reduced_rank, s.reduced, s.reduced_stride, row); }
  __device__ int64_t output(int64_t group, int64_t column) const {
    return offset_of(outer_kept, s.kept, s.kept_out_stride, group) + column * out_stride;
  }
  // Of an element among what is reduced, given its row and its place in the pack
  __device__ int64_t position(int64_t row, int v) const { return cut.folded ? row * cut.C + v : row; }
};

template <class E>
struct ReducedRows {
  const Matrices& of;
  E* x;  // of the group and the column
  __device__ __forceinline__ E* at(int64_t row) const { return x + of.offset_of_row(row); }
};

template <class E>
__device__ __forceinline__ ReducedRows<E> rows_of(const Matrices& of, E* x, int64_t group, int64_t column) {
  return {of, x + of.offset_of_group(group) + column};
}

struct ReducedSource {
  Matrices of;
  const T* x;
  __device__ __forceinline__ ReducedRows<const T> rows(int64_t group, int64_t column) const { return rows_of(of, x, group, column); }
};

struct ToOutputs {
  Matrices of;
  T* y;
  __device__ void put(int64_t group, int64_t, int64_t column, double sum) const { y[of.output(group, column)] = T(float(sum)); }
};

// The best so far: NaN before every number, the larger number before the smaller, the earlier before the later.
struct Best {
  float value = -INFINITY;
  int64_t at = INT64_MAX;
  __device__ __forceinline__ void join(const Best& other) {
    const bool earlier = other.at < at, is_nan = other.value != other.value;
    const bool better = value != value ? is_nan && earlier : is_nan || other.value > value || (other.value == value && earlier);
    if (better) *this = other;
  }
};

// Where a chunk's best goes: to the output, or where there are several chunks, to `part`, whose best are joined by a second launch.
struct Winners {
  Matrices of;
  T* y;
  i64* index;
  Best* part;  // [chunk][group][column]; null: none
  __device__ __forceinline__ void put(int64_t group, int64_t column, const Best& best) const {
    const int64_t out = of.output(group, column);
    y[out] = T(best.value), index[out] = best.at;
  }
};

template <class Packs_>
struct ColumnMaxima {
  using Packs = Packs_;
  using Cell = Best;
  const T* x;
  Winners to;

  __device__ void take(const Place<Packs>& place, Cell (&cell)[Packs::columns]) const {
    constexpr int stretch = 4;
    const Matrices& of = to.of;
    const auto rows = rows_of(of, x, place.group, place.column);
    for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
      typename Packs::P pack[stretch];
      const int n = load_rows<Packs>(place, rows, row, pack);
      UNROLL for (int i = 0; i < stretch; i++) {
        UNROLL for (int v = 0; v < Packs::columns; v++) {
          if (i < n) cell[v].join({float(pack[i].e[v]), of.position(row + i * place.step, v)});
        }
      }
    }
  }
  __device__ void finish(const Place<Packs>& place, const Cell (&cell)[Packs::columns]) const {
    const Columns& cut = to.of.cut;
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      if (v >= place.results) continue;
      if (to.part)
        to.part[(place.chunk * cut.groups + place.group) * cut.width() + place.column + v] = cell[v];
      else
        to.put(place.group, place.column + v, cell[v]);
    }
  }
};

// A warp an output: whatever the order, the same one is the best.
__global__ void join_winners(Winners to) {
  const Columns& cut = to.of.cut;
  const int64_t i = number_of_warp(), count = cut.groups * cut.width();
  if (i >= count) return;
  Best best;
  for (int64_t chunk = threadIdx.x % warp_size; chunk < cut.chunks; chunk += warp_size) best.join(to.part[chunk * count + i]);
  for (int step = warp_size / 2; step > 0; step /= 2) {
    Best other;
    other.value = __shfl_down_sync(full_warp, best.value, step);
    other.at = __shfl_down_sync(full_warp, best.at, step);
    best.join(other);
  }
  if (is_first_lane()) to.put(i / cut.width(), i % cut.width(), best);
}

// dx is dy where the winner was, else 0.
template <class Packs>
__global__ void give_to_winners(Matrices of, const i64* index, const T* dy, T* dx) {
  const Place<Packs> place(of.cut, blockIdx.x);
  if (!place.inside) return;
  const auto rows = rows_of(of, dx, place.group, place.column);
  int64_t winner[Packs::columns];
  T value[Packs::columns];
  UNROLL for (int v = 0; v < Packs::columns; v++) {
    const int64_t out = of.output(place.group, of.cut.folded ? 0 : place.column + v);
    winner[v] = index[out], value[v] = dy[out];
  }
  for (int64_t row = place.row; row < place.end; row += place.step) {
    typename Packs::P to;
    UNROLL for (int v = 0; v < Packs::columns; v++) to.e[v] = winner[v] == of.position(row, v) ? value[v] : T(0.0f);
    Packs::store(rows.at(row), to);
  }
}

}  // namespace

Plan sum_plan(const Context&, const Reduce& s) {
  const Columns cut = Matrices(s, usual_blocks).cut;
  return {cut.chunks == 1 ? "whole" : "chunks", column_sums_scratch(cut)};
}

void sum(const Context& context, const Reduce& s, const T* x, T* y, void* scratch) {
  const Matrices of(s, usual_blocks);
  with_packs(of.cut.C, are_aligned(x),
             [&](auto packs) { sum_columns<decltype(packs)>(context, of.cut, ReducedSource{of, x}, ToOutputs{of, y}, scratch); });
}

Plan max_forward_plan(const Context&, const Reduce& s) {
  const Columns cut = Matrices(s, usual_blocks).cut;
  if (cut.chunks == 1) return {"whole", 0};
  return {"chunks", cut.chunks * cut.groups * cut.width() * int64_t(sizeof(Best))};
}

void max_forward(const Context& context, const Reduce& s, const T* x, T* y, i64* index, void* scratch) {
  const Matrices of(s, usual_blocks);
  const Winners to = {of, y, index, of.cut.chunks == 1 ? nullptr : static_cast<Best*>(scratch)};
  with_packs(of.cut.C, are_aligned(x), [&](auto packs) { run_on(of.cut, context, ColumnMaxima<decltype(packs)>{x, to}); });
  if (to.part) launch(context, join_winners, warp_job_grid(of.cut.groups * of.cut.width()), warp_job_threads, to);
}

void max_backward(const Context& context, const Reduce& s, const i64* index, const T* dy, T* dx) {
  const Matrices of(s, usual_blocks);
  with_packs(of.cut.C, are_aligned(dx),
             [&](auto packs) { launch(context, give_to_winners<decltype(packs)>, of.cut.grid(), of.cut.threads(), of, index, dy, dx); });
}

}  // namespace fastnn::FASTNN_TABLE
