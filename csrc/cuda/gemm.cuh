// y = a b in tiles: the main loop, the kernel around it, and what leaves a tile. Convolutions and matrix products are Problems: how many
// products there are side by side (slices), and for each a Part: its operands (gemm_copy.cuh), its Target, its sizes.
#pragma once
#include <cstdlib>

#include "activation.cuh"
#include "gemm_copy.cuh"
#include "gemm_multiply.cuh"
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// The main loop: core's sums += a b over [begin, end) of the depth, for the tile at (row, column). Chunks are copied some ahead of the one
// being multiplied: into the place of the one before it, which nobody reads any more behind the barrier; or, where products go on by
// themselves, of the one before that.
template <class Tile, class Core, class A, class B>
struct MainLoop {
  using LayoutA = typename Core::LayoutA;
  using LayoutB = typename Core::LayoutB;
  using CopyA = ChunkCopy<A, LayoutA, Tile::threads>;
  using CopyB = ChunkCopy<B, LayoutB, Tile::threads>;
  static constexpr int chunks_ahead = Tile::stages - (Core::goes_on ? 2 : 1);
  struct Stage {
    alignas(LayoutA::alignment) T a[LayoutA::size];
    alignas(LayoutB::alignment) T b[LayoutB::size];
  };
  struct Stages {
    Stage stage[Tile::stages];
  };
  struct Places {
    typename CopyA::Shared a;
    typename CopyB::Shared b;
  };

  CopyA copy_a;
  CopyB copy_b;
  __device__ __forceinline__ MainLoop(const A& a, const B& b, Places& places, int64_t row, int64_t column)
      : copy_a(a, places.a, row), copy_b(b, places.b, column) {}

  __device__ __forceinline__ void run(Stages& all, int64_t begin, int64_t end, Core& core) {
    const int64_t chunks = divide_up(end - begin, LayoutA::depth);
    copy_a.start(begin), copy_b.start(begin);
    for (int i = 0; i < chunks_ahead; i++) {
      __syncthreads();  // the lines of this chunk are known to all
      copy(all.stage[i], i < chunks);
    }
    int now = 0, ahead = chunks_ahead;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      wait_for_copies<chunks_ahead - 1>();
      if constexpr (Core::goes_on) show_to_group_products();
      __syncthreads();  // this chunk is there for all, and nobody reads the one that is replaced
      if constexpr (Core::goes_on) core.add(all.stage[now].a, all.stage[now].b);
      copy(all.stage[ahead], chunk + chunks_ahead < chunks);
      if constexpr (Core::goes_on)
        core.template finish<1>();
      else
        core.add(all.stage[now].a, all.stage[now].b);
      now = now + 1 < Tile::stages ? now + 1 : 0, ahead = ahead + 1 < Tile::stages ? ahead + 1 : 0;
    }
    if constexpr (Core::goes_on) core.template finish<0>();
  }
  __device__ __forceinline__ void copy(Stage& stage, bool more) {
    if (more) copy_a.next(stage.a), copy_b.next(stage.b);
    commit_copies();
  }
};

// --- where sums go

// Long float32 sums are sums of short ones: each stretch of the depth is summed on its own, and added to what the target holds.
template <class Element>
constexpr int64_t stretch = sizeof(Element) == sizeof(float) ? 2048 : int64_t{1} << 62;

// Rows of y, or of partial sums, `stride` apart. With whole, they are written 16 bytes at a time.
template <class Element_>
struct RowTarget {
  using Element = Element_;
  static constexpr bool has_moments = false;
  Element* y;
  int64_t stride;
  const float* bias;
  Activation activation;
  bool whole;
  __device__ __forceinline__ Element* row(int64_t i) const { return y + i * stride; }
};

// Where the moments of a tile's section of rows are left, null where they are not wanted or there are no rows.
struct SectionRow {
  Section* to;
  int count;  // of rows
};

// Rows of y whose moments are left in `sections` where that is not null, [row / section_rows][stride].
struct MomentsTarget : RowTarget<T> {
  static constexpr bool has_moments = true;
  Section* sections;
  __device__ __forceinline__ SectionRow section(int64_t row, int64_t rows) const {
    const bool there = sections && row < rows;
    return {there ? sections + row / section_rows * stride : nullptr, int(smaller<int64_t>(section_rows, rows - row))};
  }
};

template <class A_, class B_, class Target_>
struct Part {
  using A = A_;
  using B = B_;
  using Target = Target_;
  A a;
  B b;
  Target target;
  int64_t rows, columns, begin, end;  // of the depth
};

// Which tile of which slice a block makes. Blocks that follow each other share rows of a or columns of b: they walk down 8 tiles, then one
// to the right.
struct TileGrid {
  unsigned down, across, slices;
  struct Position {
    unsigned slice, row, column;  // counted in tiles
  };
  dim3 grid() const { return dim3(down * across * slices); }
  __device__ __forceinline__ Position position(unsigned block) const {
    constexpr unsigned band = 8;
    const unsigned slice = block / (down * across), tile = block - slice * (down * across), bands = tile / (band * across);
    const unsigned in_band = tile - bands * (band * across), height = smaller(band, down - bands * band), column = in_band / height;
    return {slice, bands * band + in_band - column * height, column};
  }
};

template <class Way, class Tile, class Part>
struct TileKernel {
  using Core = typename Way::template Core<Tile, Part::A::along_depth, Part::B::along_depth>;
  using Loop = MainLoop<Tile, Core, typename Part::A, typename Part::B>;
  using Element = typename Part::Target::Element;
  static constexpr bool has_moments = Part::Target::has_moments;
  static constexpr int packed_pitch = Tile::columns + 8;  // so that the rows of a warp's lanes have banks of their own
  struct Shared {
    union {
      typename Loop::Stages stages;
      alignas(16) float sum[Tile::rows * Tile::sum_pitch];
      alignas(16) T packed[Core::goes_on ? Tile::rows * packed_pitch : 1];  // as it is stored
    };
    typename Loop::Places places;
    Element* row[Tile::rows];  // of the target, null where there is none
    SectionRow section[has_moments ? Tile::rows / section_rows : 1];
  };

  // What is asked behind the main loop is asked of shared memory: in it, every register counts.
  static __device__ __forceinline__ bool takes_moments(const Shared& s) { return has_moments && s.section[0].to; }

  // Sums from shared memory to the target, 16 bytes of a row at a time. `more`: added to what is there; `last`: nothing will be added, so
  // that the activation follows, and what is stored stays in shared memory where its moments are wanted.
  static __device__ __forceinline__ void store(Shared& s, const Part& part, int64_t first_column, bool more, bool last) {
    constexpr int width = 16 / sizeof(Element), per_row = Tile::columns / width;
    const Activation activation = last ? part.target.activation : Activation::none;
    const bool stays = last && takes_moments(s);
    for (int i = int(threadIdx.x); i < Tile::rows * per_row; i += Tile::threads) {
      const int column = i % per_row * width;
      const int64_t at = first_column + column, left = part.columns - at;
      Element* y = s.row[i / per_row];
      if (!y || left <= 0) continue;
      float* sum = s.sum + i / per_row * Tile::sum_pitch + column;
      const float* bias = more ? nullptr : part.target.bias;
      float value[width] = {};
      Pack<Element, width> pack;
      auto* at_once = reinterpret_cast<Pack<Element, width>*>(y + at);  // where the target is whole
      if (more && part.target.whole) pack = *at_once;
      UNROLL for (int v = 0; v < width; v++) {
        if (v >= left) continue;
        if (more && !part.target.whole) pack.e[v] = y[at + v];
        value[v] = sum[v] + (bias ? bias[at + v] : 0.0f) + (more ? float(pack.e[v]) : 0.0f);
      }
      activate(activation, value);
      UNROLL for (int v = 0; v < width; v++) {
        pack.e[v] = Element(value[v]);
        if (!part.target.whole && v < left) y[at + v] = pack.e[v];
        if (stays) sum[v] = float(pack.e[v]);
      }
      if (part.target.whole) *at_once = pack;
    }
  }

  // tile: what is stored, in rows `pitch` apart
  template <class E>
  static __device__ __forceinline__ void store_moments(const Shared& s, const E* tile, int pitch, const Part& part, int64_t first_column) {
    for (int i = int(threadIdx.x); i < Tile::rows / section_rows * Tile::columns; i += Tile::threads) {
      const int column = i % Tile::columns, number = i / Tile::columns;
      const SectionRow section = s.section[number];
      if (!section.to || first_column + column >= part.columns) continue;
      const E* x = tile + number * section_rows * pitch + column;
      section.to[first_column + column] = section_of(section.count, [=](int k) { return float(x[k * pitch]); });
    }
  }

  // --- of warpgroups, whose threads have neighbours in a row: float32 goes where it belongs at once, T through shared memory as it is
  // stored

  static __device__ __forceinline__ void add_sums(Shared& s, Core& core, const Part& part, int64_t first_column, bool more) {
    const bool whole = part.target.whole;
    const int left = int(smaller<int64_t>(part.columns - first_column, Tile::columns));
    core.visit([&](int row) {
      Element* const y = s.row[row] ? s.row[row] + first_column : nullptr;
      return [=](int column, float first, float second) {
        if (!y || column >= left) return;
        Pack<float, 2> pair = {first, second};
        if (whole) {
          auto* const at = reinterpret_cast<Pack<float, 2>*>(y + column);
          if (more) pair.e[0] += at->e[0], pair.e[1] += at->e[1];
          *at = pair;
        } else {
          UNROLL for (int v = 0; v < 2; v++) if (column + v < left) y[column + v] = pair.e[v] + (more ? y[column + v] : 0.0f);
        }
      };
    });
  }

  static __device__ __forceinline__ void store_packed(Shared& s, Core& core, const Part& part, int64_t first_column) {
    if (part.target.bias) core.add_bias(part.target.bias + first_column, part.columns - first_column);
    if (part.target.activation == Activation::relu) core.relu();
    core.visit([&](int row) {
      T* const to = s.packed + row * packed_pitch;
      return [=](int column, float first, float second) { *reinterpret_cast<Pack<T, 2>*>(to + column) = {T(first), T(second)}; };
    });
    __syncthreads();
    constexpr int per_row = Tile::columns / pack_width, each = Tile::rows * per_row / Tile::threads;
    UNROLL for (int n = 0; n < each; n++) {
      const int i = n * Tile::threads + int(threadIdx.x), column = i % per_row * pack_width;
      const int64_t at = first_column + column, left = part.columns - at;
      Element* const y = s.row[i / per_row];
      if (!y || left <= 0) continue;
      store_some(y + at, *reinterpret_cast<const Pack<T, pack_width>*>(s.packed + i / per_row * packed_pitch + column), left,
                 part.target.whole);
    }
    if constexpr (has_moments) {
      if (takes_moments(s)) store_moments(s, s.packed, packed_pitch, part, first_column);
    }
  }

  // The sums of a stretch that begins at `begin`
  static __device__ __forceinline__ void leave(Shared& s, Core& core, const Part& part, int64_t first_column, int64_t begin) {
    const bool more = begin != part.begin, last = begin + stretch<Element> >= part.end;
    if constexpr (Core::goes_on && sizeof(Element) == sizeof(float)) {
      return add_sums(s, core, part, first_column, more);
    } else {
      if constexpr (Core::goes_on) {
        if (part.target.activation == Activation::none || part.target.activation == Activation::relu)
          return store_packed(s, core, part, first_column);
      }
      core.put(s.sum);
      __syncthreads();
      store(s, part, first_column, more, last);
      if constexpr (has_moments) {
        if (!last || !takes_moments(s)) return;
        __syncthreads();
        store_moments(s, s.sum, Tile::sum_pitch, part, first_column);
      }
    }
  }

  static __device__ __forceinline__ void run(const Part& part, int64_t row, int64_t column) {
    Shared& s = shared<Shared>();
    for (int i = int(threadIdx.x); i < Tile::rows; i += Tile::threads) s.row[i] = row + i < part.rows ? part.target.row(row + i) : nullptr;
    if constexpr (has_moments) {
      for (int i = int(threadIdx.x); i < Tile::rows / section_rows; i += Tile::threads)
        s.section[i] = part.target.section(row + i * section_rows, part.rows);
    }
    Loop loop(part.a, part.b, s.places, row, column);
    __syncthreads();                                  // places and rows are there for all
    if constexpr (sizeof(Element) < sizeof(float)) {  // without a loop, out of which the compiler would take what comes behind it
      run_stretch(s, loop, part, column, part.begin, part.end);
    } else {
      for (int64_t begin = part.begin; begin == part.begin || begin < part.end; begin += stretch<Element>) {
        run_stretch(s, loop, part, column, begin, smaller(part.end - begin, stretch<Element>) + begin);
        __syncthreads();
      }
    }
  }
  static __device__ __forceinline__ void run_stretch(Shared& s, Loop& loop, const Part& part, int64_t column, int64_t begin, int64_t end) {
    Core core;
    loop.run(s.stages, begin, end, core);
    wait_for_copies<0>();
    __syncthreads();  // the stages become the tile of sums
    leave(s, core, part, column, begin);
  }
};

// From sm_100 on the compiler needs more registers than three blocks leave it, and would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int most_resident = 2;
#else
constexpr int most_resident = 8;
#endif

#if defined(__CUDA_ARCH__) && !defined(FASTNN_GROUP_PRODUCTS)
constexpr bool has_group_products = false;
#else
constexpr bool has_group_products = true;
#endif

template <class Way, class Tile, class Problem>
__global__ void __launch_bounds__(Tile::threads, (Tile::resident < most_resident ? Tile::resident : most_resident))
    multiply_tiles(Problem problem, TileGrid grid) {
  if constexpr (Way::only_hopper && !has_group_products) return;  // of other chips' code: never started there
  const TileGrid::Position at = grid.position(blockIdx.x);
  const typename Problem::Part part = problem.part(at.slice);
  const int64_t row = int64_t(at.row) * Tile::rows, column = int64_t(at.column) * Tile::columns;
  if (row < part.rows && column < part.columns) TileKernel<Way, Tile, typename Problem::Part>::run(part, row, column);
}

template <class Way, class Tile, class Problem>
void launch_tiles(const Context& context, const Problem& problem, int64_t rows, int64_t columns, int64_t slices) {
  const TileGrid grid = {unsigned(divide_up(rows, Tile::rows)), unsigned(divide_up(columns, Tile::columns)), unsigned(slices)};
  using Shared = typename TileKernel<Way, Tile, typename Problem::Part>::Shared;
  launch<Shared, Way::only_hopper ? shared_on_hopper : shared_anywhere>(context, multiply_tiles<Way, Tile, Problem>, grid.grid(),
                                                                        Tile::threads, problem, grid);
}

// --- which tile

constexpr int whole_chunks = 64;  // of every way: a multiple of all depths

enum class TileSize : int { tiny, small, tall, large, deep };  // the last is Hopper's

// How many neighbours of an operand are copied at once: as the shape allows, which chooses the way and its name; and as they lie.
struct Vectors {
  int planned, copied;
  Vectors(int planned, int copied) : planned(planned), copied(copied) {}
  Vectors(int planned) : Vectors(planned, planned) {}
};

// Whether products are the tensor core's own affair.
inline bool takes_groups(Vectors vectors) { return sizeof(T) == 2 && vectors.planned > 1 && on_hopper(); }

// The tiles of with_way(). Operands that are copied element by element have small ones, so that no thread has a long list to copy.
struct Tiles {
  const TileShape* shapes;
  TileSize last;
  explicit Tiles(Vectors vectors) {
    const bool groups = takes_groups(vectors);
    shapes = groups ? GroupBf16::shapes : ThreadsRead::shapes;
    if (vectors.copied > 1)
      last = groups ? TileSize::deep : TileSize::large;
    else
      last = groups ? TileSize::tiny : TileSize::small;
  }
  const TileShape& operator[](TileSize size) const { return shapes[int(size)]; }
};

// The tile with which `slices` products are done first
inline TileSize tile_size(int64_t rows, int64_t columns, int64_t depth, int64_t slices, Vectors vectors) {
  const Tiles tiles(vectors);
#if defined(FASTNN_CUDA_EMULATED)  // tests meet in small products the tiles of large ones
  if (const char* wanted = getenv("FASTNN_EMULATED_TILE")) return smaller(TileSize(atoi(wanted)), tiles.last);
#endif
  TileSize best = TileSize::tiny;
  double least = 0;
  for (TileSize size = best; size <= tiles.last; size = TileSize(int(size) + 1)) {
    const TileShape& tile = tiles[size];
    const double time = tile.time(tile.count(rows, columns) * slices, divide_up(depth, whole_chunks));
    if (size == TileSize::tiny || time < least) best = size, least = time;
  }
  return best;
}

// How the depth of a product of few tiles is cut: in `count` parts of `length`, a multiple of chunks. So many that the tiles of all parts
// fill a GPU twice and no more, none shorter than `shortest`.
struct Split {
  int64_t count, length;
  Split(int64_t depth, int64_t tiles) {
    constexpr int64_t shortest = 256, most = 64;
    const int64_t wanted = smaller(2 * multiprocessors / larger<int64_t>(1, tiles), most);
    const int64_t parts = larger<int64_t>(1, smaller(wanted, depth / shortest));
    length = larger<int64_t>(1, divide_up(divide_up(depth, parts), whole_chunks)) * whole_chunks;
    count = larger<int64_t>(1, divide_up(depth, length));
  }
};

// The tile of such a product, before it is known how it is cut
inline TileSize split_tile_size(int64_t rows, int64_t columns, int64_t depth, int64_t slices, Vectors vectors) {
  const int64_t stretches = larger<int64_t>(1, depth / stretch<float>);
  return tile_size(rows, columns, depth / stretches, slices * stretches, vectors);
}

// The product with the tile that fits. vector is that of the operands, and `slices` products are launched.
template <class Way, int vector, class Problem>
void multiply(const Context& context, TileSize size, const Problem& problem, int64_t rows, int64_t columns, int64_t slices) {
  if constexpr (vector > 1) {
    if (size == TileSize::large) return launch_tiles<Way, typename Way::Large>(context, problem, rows, columns, slices);
    if (size == TileSize::tall) return launch_tiles<Way, typename Way::Tall>(context, problem, rows, columns, slices);
    if constexpr (Way::only_hopper) {
      if (size == TileSize::deep) return launch_tiles<Way, typename Way::Deep>(context, problem, rows, columns, slices);
    }
  }
  if constexpr (vector > 1 || !Way::only_hopper) {
    if (size == TileSize::small) return launch_tiles<Way, typename Way::Small>(context, problem, rows, columns, slices);
  }
  launch_tiles<Way, typename Way::Tiny>(context, problem, rows, columns, slices);
}

// --- which way, by storage and precision

// body(Way{})
template <class F>
void with_way(Precision precision, Vectors vectors, const F& body) {
  if constexpr (sizeof(T) == 2) {
    return takes_groups(vectors) ? body(GroupBf16{}) : body(Bf16{});
  } else if (precision == Precision::highest) {
    return body(Ffma{});
  } else if (precision == Precision::high) {
    return body(Tf32x3{});
  } else {
    return body(Tf32{});
  }
}

// "implicit_gemm_ffma" and its like: a family's name for each way
struct WayNames {
  const char *ffma, *tf32x3, *tf32, *bf16, *groups;
  const char* of(Precision precision, Vectors vectors) const {
    if (sizeof(T) == 2) return takes_groups(vectors) ? groups : bf16;
    return precision == Precision::highest ? ffma : precision == Precision::high ? tf32x3 : tf32;
  }
};
#define WAY_NAMES(family) {family "_ffma", family "_tf32x3", family "_tf32", family "_bf16", family "_bf16_groups"}

// --- sums of partial products

// `slices` matrices of `size` elements, `columns` to a row (1 where there is no bias), each the sum of `parts` partial products, which
// lie one after the other.
struct Partials {
  const float* sums;
  int64_t size, columns, parts, slices;
};

// y[i] = activation(sums[0][i] + sums[1][i] + ... + bias[i % columns]), for each slice. A thread: four neighbours of a slice.
template <Activation activation, class Y>
__global__ void combine_parts(Partials p, bool at_once, const float* bias, Y* y) {
  constexpr int width = 4;
  const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, of_slice = divide_up(p.size, width), slice = thread / of_slice;
  if (slice >= p.slices) return;
  const int64_t i = thread % of_slice * width, left = p.size - i;
  const float* own = p.sums + slice * p.parts * p.size + i;
  float sum[width] = {};
  for (int64_t part = 0; part < p.parts; part++) {
    const Pack<float, width> term = load_some<width>(own + part * p.size, left, at_once);
    UNROLL for (int v = 0; v < width; v++) sum[v] += term.e[v];
  }
  Pack<Y, width> to;
  UNROLL for (int v = 0; v < width; v++) to.e[v] = Y(activate<activation>(sum[v] + (bias && v < left ? bias[(i + v) % p.columns] : 0.0f)));
  store_some(y + slice * p.size + i, to, left, at_once);
}

template <class Y>
void combine(const Context& context, const Partials& p, const float* bias, Y* y, Activation activation = Activation::none) {
  const bool at_once = p.size % 4 == 0 && lie_in_packs<4>(p.sums, y);
  const dim3 grid(p.size ? unsigned(divide_up(divide_up(p.size, 4) * p.slices, 256)) : 0);
  with_activation(activation, [&](auto constant) {
    launch(context, combine_parts<decltype(constant)::activation, Y>, grid, 256, p, at_once, bias, y);
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
