// Batch normalisation with the residual and the activation that follow it: z = gamma (x - mean) rstd + beta + residual, y = activation(z).
// Statistics come from fixed blocks of rows, joined in float64 by a second launch; a third runs over x again, last block first, so that it
// begins with what is still in the cache.
#include "batchnorm.cuh"

#include "activation.cuh"
#include "columns.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

Columns cut_of(const BatchNorm& s) { return {1, s.rows, s.C, usual_blocks}; }

// Rows that a thread reads before it computes: enough to be under way, few enough for the registers.
template <class Packs>
constexpr int rows_at_once = Packs::columns == 1 ? 8 : 16 / Packs::columns;

// What normalisation knows of the channels; gamma and beta may be absent.
struct Channel {
  const R *gamma, *beta, *mean, *rstd;
  __device__ float scale(int64_t c) const { return gamma ? gamma[c] * rstd[c] : rstd[c]; }
};

// Of a pack of columns: z = scale (x - mean) + shift
template <int columns>
struct Affine {
  float mean[columns], scale[columns], shift[columns];
  __device__ Affine(const Channel& channel, int64_t c) {
    UNROLL for (int v = 0; v < columns; v++) {
      mean[v] = channel.mean[c + v];
      scale[v] = channel.scale(c + v);
      shift[v] = channel.beta ? channel.beta[c + v] : 0;
    }
  }
  __device__ __forceinline__ float operator()(float x, int v) const { return fmaf(x - mean[v], scale[v], shift[v]); }
};

// --- statistics

// Each thread takes the moments of eight rows at a time in two passes over registers, then joins them. They are moments of the distance
// from the chunk's first row, where float32 is finest.
template <class Packs_>
struct ColumnMoments {
  using Packs = Packs_;
  using Cell = Moments<float>;
  const T* x;
  int64_t C;
  MomentsPart* part;

  __device__ float origin(const Place<Packs>& place, int v) const {
    return place.first < place.end ? float(x[place.first * C + place.column + v]) : 0;
  }
  __device__ void take(const Place<Packs>& place, Cell (&cell)[Packs::columns]) const {
    constexpr int stretch = 8;
    const Rows<const T> rows(x, C, place.column);
    float zero[Packs::columns];
    UNROLL for (int v = 0; v < Packs::columns; v++) zero[v] = origin(place, v);
    for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
      typename Packs::P pack[stretch];
      const int n = load_rows<Packs>(place, rows, row, pack);
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        float total = 0, squares = 0;
        UNROLL for (int i = 0; i < stretch; i++) total += i < n ? float(pack[i].e[v]) - zero[v] : 0;
        const float mean = total / float(n);
        UNROLL for (int i = 0; i < stretch; i++) {
          const float distance = i < n ? float(pack[i].e[v]) - zero[v] - mean : 0;
          squares = fmaf(distance, distance, squares);
        }
        cell[v].join({float(n), mean, squares});
      }
    }
  }
  __device__ void finish(const Place<Packs>& place, const Cell (&cell)[Packs::columns]) const {
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      const double mean = double(origin(place, v)) + double(cell[v].mean);
      part[place.chunk * C + place.column + v] = {mean, cell[v].squares, int(cell[v].count)};
    }
  }
};

// The moments of a channel's blocks of rows
struct BlockMoments {
  const MomentsPart* part;
  int64_t C;
  __device__ __forceinline__ BlockMoments of(int64_t c) const { return {part + c, C}; }
  __device__ __forceinline__ Moments<double> at(int64_t k) const {
    const MomentsPart p = part[k * C];
    return {double(p.count), p.mean, double(p.squares)};
  }
};

// Those of its sections
struct SectionMoments {
  const Section* section;
  int64_t C, rows;
  __device__ __forceinline__ SectionMoments of(int64_t c) const { return {section + c, C, rows}; }
  __device__ __forceinline__ Moments<double> at(int64_t k) const {
    const Section s = section[k * C];
    return {double(smaller<int64_t>(section_rows, rows - k * section_rows)), double(s.mean), double(s.squares)};
  }
};

// A thread: `length` sections of a channel become one of its blocks.
__global__ void join_sections(SectionMoments sections, int64_t count, int64_t length, int64_t blocks, MomentsPart* part) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, c = i % sections.C, block = i / sections.C;
  if (block >= blocks) return;
  const SectionMoments own = sections.of(c);
  const int64_t begin = block * length, end = smaller(begin + length, count);
  const float zero = own.section[begin * own.C].mean;
  Moments<float> all;
  for (int64_t k = begin; k < end; k++) {
    const Section s = own.section[k * own.C];
    all.join({float(smaller<int64_t>(section_rows, own.rows - k * section_rows)), s.mean - zero, s.squares});
  }
  part[i] = {double(zero) + double(all.mean), all.squares, int(all.count)};
}

struct Statistics {
  R *running_mean, *running_var, *mean, *rstd;
};

template <class Parts>
__global__ void set_statistics(BatchNorm s, Parts parts, int64_t count, Statistics to) {
  const int64_t c = number_of_warp();
  if (c >= s.C) return;
  const Moments<double> all = join_parts(parts.of(c), count);
  if (!is_first_lane()) return;
  to.mean[c] = R(all.mean);
  to.rstd[c] = R(1 / ::sqrt(all.squares / double(larger<int64_t>(s.rows, 1)) + s.eps));
  if (s.rows == 0) return;
  if (to.running_mean) to.running_mean[c] = R(to.running_mean[c] + s.momentum * (all.mean - to.running_mean[c]));
  if (to.running_var) to.running_var[c] = R(to.running_var[c] + s.momentum * (all.squares / double(s.rows - 1) - to.running_var[c]));
}

__global__ void copy_statistics(BatchNorm s, const R* running_mean, const R* running_var, R* mean, R* rstd) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= s.C) return;
  mean[c] = running_mean[c];
  rstd[c] = R(1 / ::sqrt(running_var[c] + s.eps));
}

// --- forward

template <class Packs, Activation activation>
__global__ void apply(Columns cut, Channel channel, const T* x, const T* residual, T* y) {
  constexpr int stretch = rows_at_once<Packs>;
  const Place<Packs> place(cut, gridDim.x - 1 - blockIdx.x);
  if (!place.inside) return;
  const Affine<Packs::columns> affine(channel, place.column);
  const Rows<const T> x_rows(x, cut.C, place.column), residual_rows(residual, cut.C, place.column);
  const Rows<T> y_rows(y, cut.C, place.column);
  for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
    typename Packs::P from[stretch], added[stretch] = {};
    const int n = load_rows<Packs>(place, x_rows, row, from);
    if (residual) load_rows<Packs>(place, residual_rows, row, added);
    UNROLL for (int i = 0; i < stretch; i++) {
      if (i >= n) continue;
      typename Packs::P to;
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        const float z = affine(float(from[i].e[v]), v);
        to.e[v] = T(activate<activation>(residual ? z + float(added[i].e[v]) : z));
      }
      Packs::store(y_rows.at(row + i * place.step), to);
    }
  }
}

void normalize(const Context& context, const Columns& cut, Activation how, const Channel& channel, const T* x, const T* residual, T* y) {
  with_packs(cut.C, are_aligned(x, residual, y), [&](auto packs) {
    using Packs = decltype(packs);
    with_activation(how, [&](auto constant) {
      constexpr Activation activation = decltype(constant)::activation;
      launch(context, apply<Packs, activation>, cut.grid(), cut.threads(), cut, channel, x, residual, y);
    });
  });
}

// --- backward

// The sums of dz and of dz (x - mean). With a residual dz is also its gradient and written on the way.
template <class Packs_, Activation activation>
struct GradientSums {
  using Packs = Packs_;
  using Cell = Sums<2>;
  Channel channel;
  int64_t C, chunks;
  const T *x, *dy, *residual;
  T* dresidual;
  double* part;  // [2][chunk][channel]

  __device__ void take(const Place<Packs>& place, Cell (&cell)[Packs::columns]) const {
    constexpr int stretch = rows_at_once<Packs>;
    const Affine<Packs::columns> affine(channel, place.column);
    const Rows<const T> x_rows(x, C, place.column), dy_rows(dy, C, place.column), residual_rows(residual, C, place.column);
    const Rows<T> dresidual_rows(dresidual, C, place.column);
    for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
      typename Packs::P x_pack[stretch], dz_pack[stretch], added[stretch] = {};
      const int n = load_rows<Packs>(place, x_rows, row, x_pack);
      load_rows<Packs>(place, dy_rows, row, dz_pack);
      if (residual) load_rows<Packs>(place, residual_rows, row, added);
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        float sum = 0, along_x = 0;
        UNROLL for (int i = 0; i < stretch; i++) {
          if (i >= n) continue;  // zeros would do but for silu and gelu, whose slopes may be infinity times 0
          const float from = float(x_pack[i].e[v]), z = affine(from, v);
          const float dz = activate_backward<activation>(residual ? z + float(added[i].e[v]) : z, float(dz_pack[i].e[v]));
          sum += dz;
          along_x = fmaf(dz, from - affine.mean[v], along_x);
          dz_pack[i].e[v] = T(dz);
        }
        cell[v].sum[0] += double(sum), cell[v].sum[1] += double(along_x);
      }
      UNROLL for (int i = 0; i < stretch; i++) {
        if (residual && i < n) Packs::store(dresidual_rows.at(row + i * place.step), dz_pack[i]);
      }
    }
  }
  __device__ void finish(const Place<Packs>& place, const Cell (&cell)[Packs::columns]) const {
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      UNROLL for (int k = 0; k < 2; k++) part[(k * chunks + place.chunk) * C + place.column + v] = cell[v].sum[k];
    }
  }
};

// dx = scale (dz - dz_mean) - slope (x - mean)
struct Correction {
  float *dz_mean, *slope;
};

__global__ void finish_sums(BatchNorm s, Channel channel, const double* part, int64_t parts, R* dgamma, R* dbeta, Correction to) {
  const int64_t c = number_of_warp();
  if (c >= s.C) return;
  const double sum = sum_parts(part + c, parts, s.C), along_x = sum_parts(part + parts * s.C + c, parts, s.C);
  if (!is_first_lane()) return;
  const double per_row = 1 / double(larger<int64_t>(s.rows, 1)), rstd = channel.rstd[c];
  dbeta[c] = R(sum);
  dgamma[c] = R(along_x * rstd);
  to.dz_mean[c] = float(sum * per_row);
  to.slope[c] = float(channel.scale(c) * (along_x * per_row * rstd * rstd));
}

// Without an activation (or with a residual, whose gradient dz is) dy is dz itself.
template <class Packs, Activation activation>
__global__ void make_dx(Columns cut, Channel channel, bool training, Correction correction, const T* x, const T* dy, T* dx) {
  constexpr int stretch = rows_at_once<Packs>;
  const Place<Packs> place(cut, gridDim.x - 1 - blockIdx.x);
  if (!place.inside) return;
  const Affine<Packs::columns> affine(channel, place.column);
  float dz_mean[Packs::columns] = {}, slope[Packs::columns] = {};
  if (training) {
    UNROLL for (int v = 0; v < Packs::columns; v++) {
      dz_mean[v] = correction.dz_mean[place.column + v];
      slope[v] = correction.slope[place.column + v];
    }
  }
  const Rows<const T> x_rows(x, cut.C, place.column), dy_rows(dy, cut.C, place.column);
  const Rows<T> dx_rows(dx, cut.C, place.column);
  for (int64_t row = place.row; row < place.end; row += stretch * place.step) {
    typename Packs::P x_pack[stretch], dy_pack[stretch];
    const int n = load_rows<Packs>(place, dy_rows, row, dy_pack);
    load_rows<Packs>(place, x_rows, row, x_pack);
    UNROLL for (int i = 0; i < stretch; i++) {
      if (i >= n) continue;
      typename Packs::P to;
      UNROLL for (int v = 0; v < Packs::columns; v++) {
        const float from = float(x_pack[i].e[v]), dz = activate_backward<activation>(affine(from, v), float(dy_pack[i].e[v]));
        const float along_x = slope[v] * (from - affine.mean[v]);
        to.e[v] = T(training ? fmaf(affine.scale[v], dz - dz_mean[v], -along_x) : affine.scale[v] * dz);
      }
      Packs::store(dx_rows.at(row + i * place.step), to);
    }
  }
}

// How many blocks the sections of a channel are joined to first; 0 where they are few enough to be read by one warp.
int64_t joined_blocks(const BatchNorm& s) {
  const int64_t count = divide_up(s.rows, section_rows);
  return count <= usual_blocks ? 0 : divide_up(count, divide_up(count, usual_blocks));
}

}  // namespace

Plan batchnorm_forward_plan(const Context&, const BatchNorm& s) {
  return {"two passes", cut_of(s).chunks * s.C * int64_t(sizeof(MomentsPart))};
}
Plan batchnorm_inference_plan(const Context&, const BatchNorm&) { return {"one pass", 0}; }
Plan batchnorm_backward_plan(const Context&, const BatchNorm& s) {
  return {"two passes", s.C * (2 * cut_of(s).chunks * int64_t(sizeof(double)) + 2 * int64_t(sizeof(float)))};
}

void batchnorm_forward(const Context& context, const BatchNorm& s, const T* x, const R* gamma, const R* beta, const T* residual,
                       R* running_mean, R* running_var, T* y, R* mean, R* rstd, void* scratch) {
  const Columns cut = cut_of(s);
  MomentsPart* part = static_cast<MomentsPart*>(scratch);
  with_packs(s.C, are_aligned(x), [&](auto packs) { run_on(cut, context, ColumnMoments<decltype(packs)>{x, s.C, part}); });
  const Statistics statistics{running_mean, running_var, mean, rstd};
  launch(context, set_statistics<BlockMoments>, warp_job_grid(s.C), warp_job_threads, s, BlockMoments{part, s.C}, cut.chunks, statistics);
  normalize(context, cut_of(s), s.activation, {gamma, beta, mean, rstd}, x, residual, y);
}

int64_t section_count(const BatchNorm& s) { return divide_up(s.rows, section_rows); }
int64_t sections_scratch(const BatchNorm& s) {
  return s.C * (section_count(s) * int64_t(sizeof(Section)) + joined_blocks(s) * int64_t(sizeof(MomentsPart)));
}

void batchnorm_from_sections(const Context& context, const BatchNorm& s, const T* x, const NormOperands& o, Section* sections) {
  const Statistics statistics{o.running_mean, o.running_var, o.mean, o.rstd};
  const SectionMoments moments{sections, s.C, s.rows};
  const int64_t count = section_count(s), blocks = joined_blocks(s);
  if (blocks == 0) {
    launch(context, set_statistics<SectionMoments>, warp_job_grid(s.C), warp_job_threads, s, moments, count, statistics);
  } else {
    MomentsPart* part = reinterpret_cast<MomentsPart*>(sections + count * s.C);
    const dim3 grid(unsigned(divide_up(blocks * s.C, 128)));
    launch(context, join_sections, grid, 128, moments, count, divide_up(count, blocks), blocks, part);
    launch(context, set_statistics<BlockMoments>, warp_job_grid(s.C), warp_job_threads, s, BlockMoments{part, s.C}, blocks, statistics);
  }
  normalize(context, cut_of(s), s.activation, {o.gamma, o.beta, o.mean, o.rstd}, x, o.residual, o.y);
}

void batchnorm_inference(const Context& context, const BatchNorm& s, const T* x, const R* gamma, const R* beta, const T* residual,
                         const R* running_mean, const R* running_var, T* y, R* mean, R* rstd, void*) {
  launch(context, copy_statistics, dim3(unsigned(divide_up(s.C, 128))), 128, s, running_mean, running_var, mean, rstd);
  normalize(context, cut_of(s), s.activation, {gamma, beta, mean, rstd}, x, residual, y);
}

// A convolution's weight gradient out of what its input was normalised from, which is made again as a whole.
int64_t made_bytes(const Conv2d& v) { return divide_up(v.N * v.H * v.W * v.C * int64_t(sizeof(T)), 256) * 256; }

Plan conv2d_normalized_backward_weight_plan(const Context& context, const Conv2d& v) {
  const Plan plan = conv2d_backward_weight_plan(context, v);
  return {plan.algorithm, made_bytes(v) + plan.scratch_bytes};
}
void conv2d_normalized_backward_weight(const Context& context, const Conv2d& v, const T* z, const R* gamma, const R* beta, const R* mean,
                                       const R* rstd, const T* dy, R* dw, void* scratch) {
  T* const x = static_cast<T*>(scratch);
  normalize(context, {1, v.N * v.H * v.W, v.C, usual_blocks}, v.activation, {gamma, beta, mean, rstd}, z, nullptr, x);
  conv2d_backward_weight(context, v, x, dy, dw, static_cast<char*>(scratch) + made_bytes(v));
}

void batchnorm_backward(const Context& context, const BatchNorm& s, const T* x, const T* dy, const R* gamma, const R* beta,
                        const T* residual, const R* mean, const R* rstd, T* dx, R* dgamma, R* dbeta, T* dresidual, void* scratch) {
  const Columns cut = cut_of(s);
  const Channel channel{gamma, beta, mean, rstd};
  double* part = static_cast<double*>(scratch);
  float* corrections = reinterpret_cast<float*>(part + 2 * cut.chunks * s.C);
  const Correction correction{corrections, corrections + s.C};
  with_packs(s.C, are_aligned(x, dy, residual, dresidual, dx), [&](auto packs) {
    using Packs = decltype(packs);
    with_activation(s.activation, [&](auto constant) {
      using Job = GradientSums<Packs, decltype(constant)::activation>;
      run_on(cut, context, Job{channel, s.C, cut.chunks, x, dy, s.residual ? residual : nullptr, dresidual, part});
    });
    launch(context, finish_sums, warp_job_grid(s.C), warp_job_threads, s, channel, part, cut.chunks, dgamma, dbeta, correction);
    with_activation(s.residual ? Activation::none : s.activation, [&](auto constant) {
      launch(context, make_dx<Packs, decltype(constant)::activation>, cut.grid(), cut.threads(), cut, channel, s.training, correction, x,
             s.residual ? dresidual : dy, dx);
    });
  });
}

}  // namespace fastnn::FASTNN_TABLE
