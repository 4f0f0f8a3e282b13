// Matrices of rows x C, columns side by side in memory, cut for blocks of threads. A thread keeps to a pack of columns and takes every
// `step`-th row of its chunk, so that neighbouring threads read neighbouring addresses and what belongs to a column stays in registers.
// Cut and order of every sum are functions of the shape alone; whether a pack is read at once or element by element changes no result.
#pragma once
#include "sums.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// The neighbouring columns of a thread, and whether they are read and written at once or one by one.
template <int columns_, bool at_once>
struct Packs {
  static constexpr int columns = columns_;
  using P = Pack<T, columns>;

  template <class E>
  static __device__ __forceinline__ Pack<E, columns> load(const E* p) {
    if constexpr (at_once) {
      return *reinterpret_cast<const Pack<E, columns>*>(p);
    } else {
      Pack<E, columns> pack;
      UNROLL for (int v = 0; v < columns; v++) pack.e[v] = p[v];
      return pack;
    }
  }
  template <class E>
  static __device__ __forceinline__ void store(E* p, const Pack<E, columns>& pack) {
    if constexpr (at_once) {
      *reinterpret_cast<Pack<E, columns>*>(p) = pack;
    } else {
      UNROLL for (int v = 0; v < columns; v++) p[v] = pack.e[v];
    }
  }
};

template <class... E>
bool are_aligned(const E*... p) {
  return (is_aligned(p, 16) && ...);
}

constexpr int whole_pack = pack_width;

// body(Packs): of 16 bytes where rows are made of them, else of one element
template <class F>
void with_packs(int64_t C, bool aligned, const F& body) {
  if (C % whole_pack) return body(Packs<1, true>{});
  if (aligned) return body(Packs<whole_pack, true>{});
  return body(Packs<whole_pack, false>{});
}

// `groups` matrices. A block's threads: `lanes` packs side by side x `row_lanes` rows x `teams` groups. The grid: groups x tiles of columns
// x chunks of rows, the chunks as many as make at most `most_blocks` blocks, at least one. folded: all columns of a group are one, whose
// elements lie side by side.
struct Columns {
  int64_t groups, rows, C, tiles, chunk, chunks;
  int lanes, row_lanes, teams;
  bool folded = false;

  Columns(int64_t groups, int64_t rows, int64_t C, int64_t most_blocks) : groups(groups), rows(rows), C(C) {
    constexpr int64_t most_threads = 256, most_lanes = 64, rows_per_thread = 8;
    const int64_t packs = larger<int64_t>(1, C % whole_pack ? C : C / whole_pack);
    tiles = divide_up(packs, most_lanes);
    lanes = int(divide_up(packs, tiles));
    row_lanes = int(larger<int64_t>(1, smaller(most_threads / lanes, divide_up(rows, rows_per_thread))));
    teams = int(larger<int64_t>(1, smaller(most_threads / (lanes * row_lanes), groups)));
    const int64_t blocks = larger<int64_t>(1, divide_up(groups, teams) * tiles);
    const int64_t wanted = smaller(divide_up(rows, row_lanes * rows_per_thread), most_blocks / blocks);
    chunk = divide_up(rows, larger<int64_t>(1, wanted) * row_lanes) * row_lanes;
    chunks = chunk ? divide_up(rows, chunk) : 1;
  }
  dim3 grid() const { return dim3(C ? unsigned(divide_up(groups, teams) * tiles * chunks) : 0); }
  __host__ __device__ int64_t width() const { return folded ? 1 : C; }
  int threads() const { return int(divide_up(lanes * row_lanes * teams, warp_size)) * warp_size; }
};

// Enough for every multiprocessor of a large GPU to hold several; few enough that joining their results is short.
constexpr int64_t usual_blocks = 512;

// Where a thread stands.
template <class Packs>
struct Place {
  int64_t group, chunk, column;  // column: the first of its pack
  int64_t first, row, end;       // first: of the chunk; rows row, row + step, ... before end are the thread's
  int row_lane, step, results;   // results: how many numbers the pack's columns make
  bool inside;

  __device__ Place(const Columns& cut, int64_t block) {
    const int thread = int(threadIdx.x), team = thread / cut.lanes / cut.row_lanes;
    const int64_t tile = block / cut.chunks % cut.tiles;
    const bool in_team = team < cut.teams;
    group = block / cut.chunks / cut.tiles * cut.teams + team;
    chunk = block % cut.chunks;
    column = (tile * cut.lanes + thread % cut.lanes) * Packs::columns;
    row_lane = in_team ? thread / cut.lanes % cut.row_lanes : cut.row_lanes;
    step = cut.row_lanes;
    results = cut.folded ? 1 : Packs::columns;
    first = chunk * cut.chunk, row = first + row_lane, end = smaller(first + cut.chunk, cut.rows);
    inside = in_team && group < cut.groups && column < cut.C;
  }
};

// The packs of rows row, row + step, ... before the thread's end, and zeros for those behind it; how many were read. source.at(row) is
// where a row's pack lies.
template <class Packs, int stretch, class Source>
__device__ __forceinline__ int load_rows(const Place<Packs>& place, const Source& source, int64_t row, typename Packs::P (&pack)[stretch]) {
  int n = 0;
  UNROLL for (int i = 0; i < stretch; i++) {
    const bool before_end = row + i * place.step < place.end;
    pack[i] = before_end ? Packs::load(source.at(row + i * place.step)) : typename Packs::P{};
    n += before_end;
  }
  return n;
}

// The rows of a matrix of C columns, from one of the columns on. Of an absent matrix none is asked for.
template <class E>
struct Rows {
  E* x;
  int64_t C;
  __device__ Rows(E* x, int64_t C, int64_t column) : x(x ? x + column : x), C(C) {}
  __device__ __forceinline__ E* at(int64_t row) const { return x + row * C; }
};

template <class Cell, int columns>
struct RowLanes {
  Cell cell[columns][256];
};

// Joins what the row lanes of a team have found, two by two, into the first of them.
template <class Packs, class Cell>
__device__ void join_row_lanes(const Columns& cut, const Place<Packs>& place, Cell (&cell)[Packs::columns]) {
  if (cut.row_lanes == 1) return;
  auto& all = shared<RowLanes<Cell, Packs::columns>>();
  const int thread = int(threadIdx.x);
  UNROLL for (int v = 0; v < Packs::columns; v++) all.cell[v][thread] = cell[v];
  for (int left = cut.row_lanes; left > 1;) {
    const int half = (left + 1) / 2;
    __syncthreads();
    if (place.row_lane < left - half) {
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        cell[v].join(all.cell[v][thread + half * cut.lanes]);
        all.cell[v][thread] = cell[v];
      }
    }
    left = half;
  }
}

// A Job has Cell, what is known of a column, with join(); take(place, cells), a thread's rows; finish(place, cells), a chunk's result.
template <class Job>
__global__ void run_on_columns(Columns cut, Job job) {
  const Place<typename Job::Packs> place(cut, blockIdx.x);
  typename Job::Cell cell[Job::Packs::columns];
  if (place.inside) job.take(place, cell);
  join_row_lanes(cut, place, cell);
  if (!place.inside || place.row_lane != 0) return;
  if (cut.folded) {
    UNROLL for (int v = 1; v < Job::Packs::columns; v++) cell[0].join(cell[v]);
  }
  job.finish(place, cell);
}

template <class Job>
void run_on(const Columns& cut, const Context& context, const Job& job) {
  launch<RowLanes<typename Job::Cell, Job::Packs::columns>>(context, run_on_columns<Job>, cut.grid(), cut.threads(), cut, job);
}

// The sum of each column: source.rows(group, column) are its rows, sink.put(group, chunk, column, sum) takes it. Eight rows are added up in
// float32, all else in float64: the error does not grow with the number of rows.
template <class Packs_, class Source, class Sink>
struct ColumnSums {
  using Packs = Packs_;
  using Cell = Sums<1>;
  Source source;
  Sink sink;

  __device__ void take(const Place<Packs>& place, Cell (&cell)[Packs::columns]) const {
    constexpr int stretch = 8;
    const auto rows = source.rows(place.group, place.column);
    for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
      typename Packs::P x[stretch];
      load_rows<Packs>(place, rows, row, x);
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        float total = 0;
        UNROLL for (int i = 0; i < stretch; i++) total += float(x[i].e[v]);
        cell[v].sum[0] += double(total);
      }
    }
  }
  __device__ void finish(const Place<Packs>& place, const Cell (&cell)[Packs::columns]) const {
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      if (v < place.results) sink.put(place.group, place.chunk, place.column + v, cell[v].sum[0]);
    }
  }
};

struct ToParts {
  double* part;  // [chunk][group][column]
  int64_t groups, width;
  __device__ void put(int64_t group, int64_t chunk, int64_t column, double sum) const {
    part[(chunk * groups + group) * width + column] = sum;
  }
};

template <class Sink>
__global__ void join_chunks(const double* part, int64_t chunks, int64_t groups, int64_t width, Sink sink) {
  const int64_t i = number_of_warp();
  if (i >= groups * width) return;
  const double sum = sum_parts(part + i, chunks, groups * width);
  if (is_first_lane()) sink.put(i / width, 0, i % width, sum);
}

inline int64_t column_sums_scratch(const Columns& cut) {
  return cut.chunks == 1 ? 0 : cut.chunks * cut.groups * cut.width() * int64_t(sizeof(double));
}

template <class Packs, class Source, class Sink>
void sum_columns(const Context& context, const Columns& cut, const Source& source, const Sink& sink, void* scratch) {
  if (cut.chunks == 1) return run_on(cut, context, ColumnSums<Packs, Source, Sink>{source, sink});
  double* part = static_cast<double*>(scratch);
  run_on(cut, context, ColumnSums<Packs, Source, ToParts>{source, {part, cut.groups, cut.width()}});
  launch(context, join_chunks<Sink>, warp_job_grid(cut.groups * cut.width()), warp_job_threads, part, cut.chunks, cut.groups, cut.width(),
         sink);
}

// Matrices that follow each other
struct DenseGroups {
  const T* x;
  int64_t rows_of_group, C;
  __device__ __forceinline__ Rows<const T> rows(int64_t group, int64_t column) const { return {x, C, group * rows_of_group * C + column}; }
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
