// Batch normalisation with the residual and the activation that follow it: z = gamma (x - mean) rstd + beta + residual, y = activation(z).
// Statistics come from fixed blocks of rows, combined in block order. The second pass over x runs through the blocks backwards, so that it
// begins with what the first one left in the cache.
#include "activation.h"
#include "moments.h"
#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Parts {                         // of the scratch
  int64_t width;                       // of a folded row; the numbers of each channel are repeated along it
  real *mean, *scale, *shift;          // z = scale (x - mean) + shift
  real *dz_mean, *slope;               // dx = scale (dz - dz_mean) - slope (x - mean)
  real *block_first, *block_second;    // rows of C, one per block: mean and squares, or the two sums of backward
  double *total_first, *total_second;  // the same over all blocks
  int64_t bytes;
};

int64_t blocks_of(const BatchNorm& s) { return s.C ? divide_up(s.rows, rows_per_block(s.C)) : 0; }

Parts lay_out(const BatchNorm& s, void* base) {
  Scratch scratch(base);
  const int64_t width = s.C ? fold_rows(s.C).width : 0, partial = blocks_of(s) * s.C;
  Parts p;
  p.width = width;
  p.mean = scratch.take<real>(width), p.scale = scratch.take<real>(width), p.shift = scratch.take<real>(width);
  p.dz_mean = scratch.take<real>(width), p.slope = scratch.take<real>(width);
  p.block_first = scratch.take<real>(partial), p.block_second = scratch.take<real>(partial);
  p.total_first = scratch.take<double>(s.C), p.total_second = scratch.take<double>(s.C);
  p.bytes = scratch.bytes();
  return p;
}

// The last block first, in each worker's share (csrc/threads.cpp): what it left in its own cache, which may be far from the others'.
INLINE int64_t mirrored(int64_t turn, int64_t blocks, int workers) {
  const int64_t shares = smaller(workers, blocks), share = ((turn + 1) * shares - 1) / blocks;
  return blocks * share / shares + blocks * (share + 1) / shares - 1 - turn;
}

// body(block, begin, end): the elements of each block of rows, first block first or last block first
template <class F>
INLINE void for_row_blocks(const Context& context, const BatchNorm& s, bool backwards, const F& body) {
  const int64_t blocks = blocks_of(s), rows = rows_per_block(s.C);
  parallel(context, blocks, [&](int64_t turn, int) {
    const int64_t block = backwards ? mirrored(turn, blocks, context.workers) : turn;
    body(block, block * rows * s.C, smaller((block + 1) * rows, s.rows) * s.C);
  });
}

// step(i, c, load, store) on the vectors of elements [begin, end), last block first, where all that is stored are elements of y; c is the
// place in a folded row
template <class F>
INLINE void for_folded_rows(const Context& context, const BatchNorm& s, int64_t width, T* y, const F& step) {
  const bool past = goes_past(context, y, s.rows * s.C * int64_t(sizeof(T)), width);
  const auto run = [=](int64_t begin, int64_t end, bool past) __attribute__((always_inline)) {
    for (int64_t i = begin; i < end; i += width)
      for_vectors(0, smaller(width, end - i), past, [=](int64_t c, auto load, auto store) { step(i + c, c, load, store); });
  };
  for_row_blocks(context, s, true, [=](int64_t, int64_t begin, int64_t end) {
    past ? run(begin, end, true) : run(begin, end, false);  // two loops
    finish(past);
  });
}

void set_affine(const BatchNorm& s, const Parts& p, const R* gamma, const R* beta, const R* mean, const R* rstd) {
  for (int64_t i = 0; i < p.width; i++) {
    const int64_t c = i % s.C;
    p.mean[i] = mean[c];
    p.scale[i] = gamma ? gamma[c] * rstd[c] : rstd[c];
    p.shift[i] = beta ? beta[c] : 0;
  }
}

enum class Residual { none, there, perhaps };

// SiLU and GELU cost more than asking for a residual at each vector, and than a pass over dz: they are compiled once.
constexpr bool is_costly(Activation activation) { return activation > Activation::relu; }

template <Activation of, Residual with>
struct Form {
  static constexpr Activation activation = of;
  static constexpr Residual residual = with;
};

template <class F>
INLINE void with_form(const BatchNorm& s, bool residual, const F& f) {
  with_activation(s.activation, [&](auto constant) {
    constexpr Activation activation = decltype(constant)::activation;
    if constexpr (is_costly(activation))
      f(Form<activation, Residual::perhaps>());
    else
      residual ? f(Form<activation, Residual::there>()) : f(Form<activation, Residual::none>());
  });
}

template <Residual has, class Load>
INLINE vec affine(const Parts& p, const T* x, const T* residual, int64_t i, int64_t c, Load load) {
  const vec z = fma(load(x + i) - load(p.mean + c), load(p.scale + c), load(p.shift + c));
  if constexpr (has == Residual::none) return z;
  if (has == Residual::perhaps && !residual) return z;
  return z + load(residual + i);
}

template <class Form>
void apply(const Context& context, const BatchNorm& s, const Parts p, const T* x, const T* residual, T* y) {
  for_folded_rows(context, s, p.width, y, [=](int64_t i, int64_t c, auto load, auto store) {
    store(y + i, activate<Form::activation>(affine<Form::residual>(p, x, residual, i, c, load)));
  });
}

void normalize(const Context& context, const BatchNorm& s, const Parts& p, const T* x, const T* residual, T* y) {
  with_form(s, residual, [&](auto form) { apply<decltype(form)>(context, s, p, x, residual, y); });
}

// total_first: the mean, total_second: the sum of squared distances from it
void take_moments(const Context& context, const BatchNorm& s, const Parts& p, const T* x) {
  for_row_blocks(context, s, false, [&](int64_t block, int64_t begin, int64_t end) {
    block_moments(x + begin, (end - begin) / s.C, s.C, p.block_first + block * s.C, p.block_second + block * s.C);
  });
  for (int64_t c = 0; c < s.C; c++) p.total_first[c] = p.total_second[c] = 0;
  int64_t rows = 0;
  for (int64_t block = 0; block < blocks_of(s); block++) {
    const int64_t more = smaller(rows_per_block(s.C), s.rows - rows);
    combine_moments(s.C, rows, p.total_first, p.total_second, more, p.block_first + block * s.C, p.block_second + block * s.C);
    rows += more;
  }
}

// total_first: the sum of dz, total_second: the sum of dz (x - mean). With a residual, whose gradient it is, and behind costly activations
// dz is written on the way.
template <class Form>
void sum_dz(const Context& context, const BatchNorm& s, const Parts p, const T* x, const T* dy, const T* residual, T* dz) {
  constexpr bool writes = Form::residual != Residual::none;
  const bool past = writes && goes_past(context, dz, s.rows * s.C * int64_t(sizeof(T)), p.width);
  for_row_blocks(context, s, false, [&](int64_t block, int64_t begin, int64_t end) {
    real* const sums[2] = {p.block_first + block * s.C, p.block_second + block * s.C};
    const auto term = [=](int64_t row, int64_t c, vec(&t)[2], auto load, auto store) {
      const int64_t i = begin + row * p.width + c;
      t[0] = load(dy + i);
      if constexpr (Form::activation != Activation::none)
        t[0] = activate_backward<Form::activation>(affine<Form::residual>(p, x, residual, i, c, load), t[0]);
      if constexpr (writes) store(dz + i, t[0]);
      t[1] = t[0] * (load(x + i) - load(p.mean + c));
    };
    if constexpr (writes)
      if (past) {
        sum_columns<true>((end - begin) / s.C, s.C, sums, term);
        return finish(past);
      }
    sum_columns((end - begin) / s.C, s.C, sums, term);
  });
  for (int64_t c = 0; c < s.C; c++) p.total_first[c] = p.total_second[c] = 0;
  for (int64_t i = 0; i < blocks_of(s) * s.C; i += s.C) {
    for (int64_t c = 0; c < s.C; c++) p.total_first[c] += p.block_first[i + c], p.total_second[c] += p.block_second[i + c];
  }
}

// From dy, in front of which a ReLU is to be taken back, or from dz itself.
template <bool training, Activation activation>
void make_dx(const Context& context, const BatchNorm& s, const Parts p, const T* x, const T* dy, T* dx) {
  for_folded_rows(context, s, p.width, dx, [=](int64_t i, int64_t c, auto load, auto store) {
    vec dz = load(dy + i);
    if constexpr (activation != Activation::none) dz = activate_backward<activation>(affine<Residual::none>(p, x, nullptr, i, c, load), dz);
    const vec scale = load(p.scale + c);
    if constexpr (!training) return store(dx + i, scale * dz);
    const vec along_x = load(p.slope + c) * (load(x + i) - load(p.mean + c));
    store(dx + i, fma(scale, dz - load(p.dz_mean + c), -along_x));
  });
}

}  // namespace

Plan batchnorm_forward_plan(const Context&, const BatchNorm& s) { return {"two passes", lay_out(s, nullptr).bytes}; }
Plan batchnorm_inference_plan(const Context&, const BatchNorm& s) { return {"one pass", lay_out(s, nullptr).bytes}; }
Plan batchnorm_backward_plan(const Context&, const BatchNorm& s) { return {"two passes", lay_out(s, nullptr).bytes}; }

void batchnorm_forward(const Context& context, const BatchNorm& s, const T* x, const R* gamma, const R* beta, const T* residual,
                       R* running_mean, R* running_var, T* y, R* mean, R* rstd, void* scratch) {
  const Parts p = lay_out(s, scratch);
  take_moments(context, s, p, x);
  for (int64_t c = 0; c < s.C; c++) {
    mean[c] = R(p.total_first[c]);
    rstd[c] = R(1 / __builtin_sqrt(p.total_second[c] / double(larger(s.rows, 1)) + s.eps));
    if (s.rows == 0) continue;
    if (running_mean) running_mean[c] = R(running_mean[c] + s.momentum * (p.total_first[c] - running_mean[c]));
    if (running_var) running_var[c] = R(running_var[c] + s.momentum * (p.total_second[c] / double(s.rows - 1) - running_var[c]));
  }
  set_affine(s, p, gamma, beta, mean, rstd);
  normalize(context, s, p, x, residual, y);
}

void batchnorm_inference(const Context& context, const BatchNorm& s, const T* x, const R* gamma, const R* beta, const T* residual,
                         const R* running_mean, const R* running_var, T* y, R* mean, R* rstd, void* scratch) {
  const Parts p = lay_out(s, scratch);
  for (int64_t c = 0; c < s.C; c++) {
    mean[c] = running_mean[c];
    rstd[c] = R(1 / __builtin_sqrt(running_var[c] + s.eps));
  }
  set_affine(s, p, gamma, beta, mean, rstd);
  normalize(context, s, p, x, residual, y);
}

void batchnorm_backward(const Context& context, const BatchNorm& s, const T* x, const T* dy, const R* gamma, const R* beta,
                        const T* residual, const R* mean, const R* rstd, T* dx, R* dgamma, R* dbeta, T* dresidual, void* scratch) {
  const Parts p = lay_out(s, scratch);
  set_affine(s, p, gamma, beta, mean, rstd);
  const bool written = s.residual || is_costly(s.activation);
  T* const dz = s.residual ? dresidual : dx;
  with_form(s, s.residual, [&](auto form) { sum_dz<decltype(form)>(context, s, p, x, dy, s.residual ? residual : nullptr, dz); });
  const double per_row = 1 / double(larger(s.rows, 1));
  for (int64_t c = 0; c < s.C; c++) {
    dbeta[c] = R(p.total_first[c]);
    dgamma[c] = R(p.total_second[c] * rstd[c]);
  }
  for (int64_t i = 0; i < p.width; i++) {
    const int64_t c = i % s.C;
    p.dz_mean[i] = real(p.total_first[c] * per_row);
    p.slope[i] = real(p.scale[i] * (p.total_second[c] * per_row * rstd[c] * rstd[c]));
  }
  const auto make = [&](auto constant, const T* from) {
    constexpr Activation activation = decltype(constant)::activation;
    s.training ? make_dx<true, activation>(context, s, p, x, from, dx) : make_dx<false, activation>(context, s, p, x, from, dx);
  };
  if (s.activation == Activation::relu && !written) return make(Form<Activation::relu, Residual::none>(), dy);
  make(Form<Activation::none, Residual::none>(), written ? dz : dy);
}

}  // namespace fastnn::FASTNN_TABLE
