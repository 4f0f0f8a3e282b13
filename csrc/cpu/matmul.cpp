// y = op(a) op(b) + bias with the register tiles of gemm.h.
//
// The smaller operand is packed once for all. The larger side of y is cut into blocks; each block packs its own part of the other operand,
// a stretch of the depth at a time, so that both lie in the L2 cache. The widest tiles have so few rows that they read a where it lies.
// Where y is small and the depth long (weight gradients), the depth is cut as well, into partial products as many as the shape tells.
#include "gemm.h"
#include "matvec.h"
#include "own.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_depth = 272 * together;    // of both operands in cache at a time; a multiple of plane_numbers
constexpr int64_t most_block_rows = 192;          // x most_depth: 204 KiB
constexpr int64_t most_block_columns = 128;       // x most_depth: 136 KiB
constexpr int64_t least_block_work = 192 * 1024;  // multiply-adds worth waking another thread for
constexpr int64_t small_size = 384 * 1024;        // numbers of b that are packed panel by panel
constexpr int64_t most_blocks = 32, least_block_rows = 48;
constexpr int64_t most_parts = 16, least_part = 1024, most_split_size = 128 * 1024;  // products larger than that are not split in depth

struct Cut {
  int Z;                // vectors in a panel of b; in the last one perhaps fewer
  int64_t panel;        // columns of a panel
  bool by_rows;         // blocks are rows of a (b is packed once), else panels of b (a is packed once)
  int64_t block_size;   // rows or panels in a block
  int64_t blocks;       // of one product
  int64_t parts, part;  // how many parts of the depth, and how deep each is
  int64_t stretch;      // of a part's depth, in equal ones
  bool direct;          // a is read where it lies; transposed, only short or few rows, as others drive each other out of the caches

  explicit Cut(const MatMul& v) {
    Z = tile_vectors(v.N, most_vectors);
    panel = Z * N_LANES;
    by_rows = v.M > v.N;
    const int64_t count = by_rows ? v.M : divide_up(v.N, panel);
    const int64_t most = by_rows ? most_block_rows : larger(1, most_block_columns / panel), least = by_rows ? least_block_rows : 1;
    const int64_t wanted = larger(1, smaller(most_blocks, v.M * v.N * v.K / least_block_work));
    parts = v.M * v.N <= most_split_size ? larger(1, smaller(smaller(most_parts, v.K / least_part), wanted)) : 1;
    block_size = larger(divide_up(count, divide_up(wanted, parts)), least);
    block_size = smaller(smaller(block_size, most), larger(1, count));
    blocks = divide_up(count, block_size);
    part = divide_up(divide_up(larger(1, v.K), parts), plane_numbers) * plane_numbers;
    parts = divide_up(larger(1, v.K), part);
    stretch = divide_up(divide_up(part, divide_up(part, most_depth)), plane_numbers) * plane_numbers;
    direct = as_it_lies && Z == most_vectors && (!v.transpose_a || stretch * smaller(v.M, 512) <= 65536);
  }
  int vectors(int64_t columns) const { return columns > 2 * N_LANES ? Z : columns > N_LANES ? smaller(Z, 2) : 1; }  // as many as hold them
  bool staged() const { return parts > 1 || narrow; }  // summed up beside y, joined at the end
};

struct Parts {
  operand* shared;   // packed once: b [batch][panel][operands of K][Z vectors] or a [batch][plane][M][N_LANES]
  operand* kept;     // where a is shared and b can stay for later calls: b, packed as above
  real* partial;     // [batch][parts][M][N]
  int32_t* tap;      // the only tap: 0
  int64_t* row;      // offset of each row of a tile in y
  Own<operand> own;  // each worker's part of the other operand
  int64_t shared_size, bytes;
};

bool keeps_b(const Context& context, const MatMul& v) { return context.packing != Packing::each_call && v.batch == 1; }

Parts layout(const Context& context, const MatMul& v, const Cut& cut, void* base) {
  Parts parts;
  Scratch scratch(base);
  const int64_t padded_depth = divide_up(v.K, plane_numbers) * N_LANES, panels = divide_up(v.N, cut.panel);
  parts.shared_size = cut.by_rows ? panels * cut.panel * operands_of(v.K) : cut.direct ? 0 : v.M * padded_depth;
  parts.shared = scratch.take<operand>(v.batch * parts.shared_size + read_beyond);
  parts.kept = !cut.by_rows && keeps_b(context, v) ? scratch.take<operand>(panels * cut.panel * operands_of(v.K)) : nullptr;
  parts.partial = scratch.take<real>(cut.staged() ? v.batch * cut.parts * v.M * v.N : 0);
  parts.tap = scratch.take<int32_t>(1);
  parts.row = scratch.take<int64_t>(most_rows);
  parts.own = {context, scratch, cut.block_size * (cut.by_rows ? 1 : cut.panel) * cut.stretch / together + read_beyond};
  parts.bytes = scratch.bytes();
  return parts;
}

const T* a_at(const MatMul& v, const T* a, int64_t m, int64_t k) { return a + (v.transpose_a ? k * v.M + m : m * v.K + k); }
const T* b_at(const MatMul& v, const T* b, int64_t k, int64_t n) { return b + (v.transpose_b ? n * v.K + k : k * v.N + n); }

void pack_a(const MatMul& v, const T* a, int64_t m, int64_t rows, int64_t k, int64_t depth, operand* packed, int64_t plane_rows) {
  pack_rows(a_at(v, a, m, k), v.transpose_a ? v.M : v.K, v.transpose_a, depth, rows, Piece::all, packed, plane_rows);
}

// Panels of b, `stride` operands apart; `before` rows of each come ahead of the stretch that is multiplied.
struct Panels {
  operand* first;
  int64_t stride, before;
  operand* at(int64_t i, int Z) const { return first + i * stride + before * Z * N_LANES; }
};

// Panels [p0, p1) of rows [k, k + depth); of a large b a few rows of all of them at a time, so that memory is read in its order.
void pack_b(const MatMul& v, const Cut& cut, const T* b, int64_t p0, int64_t p1, int64_t k, int64_t depth, const Panels& to) {
  const int64_t at_once = !v.transpose_b && v.K * v.N > small_size && p1 - p0 > 1 ? plane_numbers : depth, end = k + depth;
  for (int64_t i = k; i < end; i += at_once)
    for (int64_t p = p0; p < p1; p++) {
      const int columns = int(smaller(cut.panel, v.N - p * cut.panel)), Z = cut.vectors(columns);
      pack_panel(b_at(v, b, i, p * cut.panel), v.transpose_b ? v.K : v.N, v.transpose_b, smaller(at_once, end - i), columns, Z, Piece::all,
                 to.at(p - p0, Z) + operands_of(i - k) * Z * N_LANES, Z * N_LANES);
    }
}

void pack_shared(const Context& context, const MatMul& v, const Cut& cut, const T* a, const T* b, const Parts& parts) {
  const int64_t panels = divide_up(v.N, cut.panel), planes = divide_up(v.K, plane_numbers);
  const int64_t count = cut.by_rows ? panels : planes, size = cut.by_rows ? cut.panel * larger(1, v.K) : plane_numbers * v.M;
  const int64_t group = larger(1, smaller(count, 32768 / size)), groups = divide_up(count, group);
  const bool kept = cut.by_rows && context.packing == Packing::kept;
  parallel(context, kept ? 0 : v.batch * groups, [&](int64_t block, int) {
    const int64_t batch = block / groups, first = block % groups * group;
    operand* const shared = parts.shared + batch * parts.shared_size;
    if (cut.by_rows) {
      const int64_t whole_panel = cut.panel * operands_of(v.K);
      pack_b(v, cut, b + batch * v.K * v.N, first, smaller(first + group, panels), 0, v.K, {shared + first * whole_panel, whole_panel, 0});
    } else {
      const int64_t k = first * plane_numbers;
      pack_a(v, a + batch * v.M * v.K, 0, v.M, k, smaller(group * plane_numbers, v.K - k), shared + operands_of(k) * v.M, v.M);
    }
  });
}

// A block of y: rows [m0, m1), panels [p0, p1), over the depth [k0, k1).
struct Block {
  int64_t m0, m1, p0, p1, k0, k1;
};

// y += or = a b over one stretch of depth
void multiply(const MatMul& v, const Cut& cut, const Block& at, const Reduction& over, const operand* a, const Panels& b, const real* bias,
              bool accumulate, Activation activation, const int64_t* row, real* y) {
  for (int64_t p = at.p0; p < at.p1; p++) {
    const int64_t n = p * cut.panel, rows = at.m1 - at.m0;
    Target<real> to = {y + at.m0 * v.N + n, row, bias ? bias + n : nullptr, int(smaller(cut.panel, v.N - n)), accumulate, activation};
    const int Z = cut.vectors(to.columns);
    const int64_t tiles = divide_up(rows, tile_rows(Z, 1)), few = rows / tiles, more = rows % tiles;
    const operand *a_row = a, *panel = b.at(p - at.p0, Z);
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t count = few + (t < more);
      tile<real>(int(count), Z, cut.direct ? 0 : N_LANES)(over, a_row, panel, to);
      a_row += count * over.pitch;
      to.y += count * v.N;
    }
  }
}

void run_block(const Context& context, const MatMul& v, const Cut& cut, const Block& at, const Parts& parts, const T* a, const T* b,
               operand* shared, const real* bias, operand* own, real* y) {
  const int64_t rows = at.m1 - at.m0, whole_panel = cut.panel * operands_of(v.K),
                stretches = larger(1, divide_up(at.k1 - at.k0, cut.stretch));
  const OnTiles tiles;
  for (int64_t i = 0; i < stretches; i++) {  // once even for K = 0
    const int64_t k = at.k0 + i * cut.stretch, depth = smaller(cut.stretch, at.k1 - k);
    const int64_t before = operands_of(k), steps = operands_of(depth);
    const Activation activation = i + 1 == stretches && !cut.staged() ? v.activation : Activation::none;
    const real* const first = i ? nullptr : bias;
    const int64_t step = v.transpose_a ? v.M : 1, pitch = v.transpose_a ? 1 : v.K;
    const operand* const lying = cut.direct ? as_operand(a_at(v, a, at.m0, k)) : nullptr;
    const auto over = [&](int64_t plane_rows) {
      return lying ? Reduction{parts.tap, 1, steps, N_LANES * step, pitch, 0, step} : Reduction{parts.tap, 1, steps, plane_rows * N_LANES};
    };
    if (cut.by_rows) {
      if (!lying) pack_a(v, a, at.m0, rows, k, depth, own, rows);
      const Panels panels = {shared + at.p0 * whole_panel, whole_panel, before};
      multiply(v, cut, at, over(rows), lying ? lying : own, panels, first, i > 0, activation, parts.row, y);
    } else {
      const bool kept = parts.kept;
      const Panels panels = {kept ? parts.kept + at.p0 * whole_panel : own, kept ? whole_panel : cut.panel * steps, kept ? before : 0};
      if (context.packing != Packing::kept) pack_b(v, cut, b, at.p0, at.p1, k, depth, panels);
      const operand* const packed = shared + before * v.M + at.m0 * N_LANES;
      multiply(v, cut, at, over(v.M), lying ? lying : packed, panels, first, i > 0, activation, parts.row, y);
    }
  }
}

// y = the sum of the partial products, in order
void add_parts(const Context& context, const MatMul& v, const Cut& cut, real* partial, const real* bias, T* y) {
  const int64_t size = v.M * v.N, group = larger(1, 16384 / v.N), groups = divide_up(v.M, group);
  parallel(context, v.batch * groups, [&](int64_t block, int) {
    const int64_t batch = block / groups, first = block % groups * group, last = smaller(v.M, first + group);
    real* const sums = partial + batch * cut.parts * size;
    T* const to = y + batch * size;
    real* const total = narrow ? sums : as_real(to);
    for (int64_t m = first; m < last; m++)
      for_vectors(0, v.N, [&](int64_t n, auto load, auto store) {
        vec sum = bias ? load(bias + n) : zero();
        for (int64_t part = 0; part < cut.parts; part++) sum += load(sums + part * size + m * v.N + n);
        store(total + m * v.N + n, sum);
      });
    activate_in_place(v.activation, total + first * v.N, (last - first) * v.N);
    if (narrow) for_vectors(first * v.N, last * v.N, [&](int64_t i, auto load, auto store) { store(to + i, load(total + i)); });
  });
}

}  // namespace

Plan matmul_plan(const Context& context, const MatMul& v) {
  if (is_matvec(v)) return {"matvec", 0};
  const Cut cut(v);
  Plan plan = {cut.parts > 1 ? PRODUCT("split_depth")
               : cut.by_rows ? PRODUCT("by_rows")
                             : PRODUCT("by_columns"),
               layout(context, v, cut, nullptr).bytes};
  if (keeps_b(context, v)) plan.packed_operand = 1;
  return plan;
}

void matmul(const Context& context, const MatMul& v, const T* a, const T* b, const R* bias, T* y, void* scratch) {
  if (v.batch * v.M * v.N == 0) return;
  if (is_matvec(v)) return matvec(context, v, a, b, bias, y);
  const Cut cut(v);
  const Parts parts = layout(context, v, cut, scratch);
  parts.tap[0] = 0;
  for (int q = 0; q < most_rows; q++) parts.row[q] = q * v.N;
  if (cut.by_rows || !cut.direct) pack_shared(context, v, cut, a, b, parts);
  const int64_t panels = divide_up(v.N, cut.panel), size = v.M * v.N;
  parallel(context, v.batch * cut.parts * cut.blocks, [&](int64_t number, int worker) {
    const int64_t block = number % cut.blocks, part = number / cut.blocks % cut.parts, batch = number / cut.blocks / cut.parts;
    const int64_t first = block * cut.block_size, last = first + cut.block_size, k = part * cut.part;
    Block at = {0, v.M, 0, panels, k, smaller(v.K, k + cut.part)};
    (cut.by_rows ? at.m0 : at.p0) = first;
    (cut.by_rows ? at.m1 : at.p1) = smaller(last, cut.by_rows ? v.M : panels);
    real* out = cut.staged() ? parts.partial + (batch * cut.parts + part) * size : as_real(y + batch * size);
    run_block(context, v, cut, at, parts, a + batch * v.M * v.K, b + batch * v.K * v.N, parts.shared + batch * parts.shared_size,
              cut.staged() ? nullptr : bias, parts.own.of(context, worker), out);
  });
  if (cut.staged()) add_parts(context, v, cut, parts.partial, bias, y);
}

}  // namespace fastnn::FASTNN_TABLE
