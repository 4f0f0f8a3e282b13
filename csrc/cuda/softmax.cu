// Softmax, its logarithm and log-sum-exp along one axis, the largest element taken out. A row belongs to a team of threads where its
// elements are neighbours, else to one thread, so that neighbouring threads read neighbouring columns.
#include "samples.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// A team's row: the place of its first element, and its line
template <class Team>
struct Row {
  int64_t number, first;
  bool inside;
  Line<Team> line;
  __device__ __forceinline__ Row(const Softmax& s, bool at_once)
      : number(Team::sample()),
        first(number / s.inner * s.n * s.inner + number % s.inner),
        inside(number < s.outer * s.inner),
        line{s.n, s.inner, at_once} {}
};

template <class Team>
__global__ void make_softmax(Softmax s, bool at_once, const T* x, T* y) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  x += row.first, y += row.first;
  const LogSumExp lse = log_sum_exp(row.line, x);
  const float share = float(::exp(-lse.log_sum));
  row.line.fill(y, [&](int64_t c) {
    const Values<T> from = row.line.load(x, c);
    return make_pack<T>([&](int j) { return expf(float(from.e[j]) - lse.top) * share; });
  });
}

template <class Team>
__global__ void make_softmax_dx(Softmax s, bool at_once, const T* y, const T* dy, T* dx) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  y += row.first, dy += row.first, dx += row.first;
  const float sum = float(row.line.sum([&](int64_t c) {
    const Values<T> p = row.line.load(y, c), d = row.line.load(dy, c);
    return make_pack<float>([&](int j) { return float(p.e[j]) * float(d.e[j]); });
  }));
  row.line.fill(dx, [&](int64_t c) {
    const Values<T> p = row.line.load(y, c), d = row.line.load(dy, c);
    return make_pack<T>([&](int j) { return float(p.e[j]) * (float(d.e[j]) - sum); });
  });
}

template <class Team>
__global__ void make_log_softmax(Softmax s, bool at_once, const T* x, T* y) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  x += row.first, y += row.first;
  const LogSumExp lse = log_sum_exp(row.line, x);
  const float log_sum = float(lse.log_sum);
  row.line.fill(y, [&](int64_t c) {
    const Values<T> from = row.line.load(x, c);
    return make_pack<T>([&](int j) { return (float(from.e[j]) - lse.top) - log_sum; });
  });
}

template <class Team>
__global__ void make_log_softmax_dx(Softmax s, bool at_once, const T* y, const T* dy, T* dx) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  y += row.first, dy += row.first, dx += row.first;
  const float sum = float(row.line.sum([&](int64_t c) {
    const Values<T> d = row.line.load(dy, c);
    return make_pack<float>([&](int j) { return float(d.e[j]); });
  }));
  row.line.fill(dx, [&](int64_t c) {
    const Values<T> log_p = row.line.load(y, c), d = row.line.load(dy, c);
    return make_pack<T>([&](int j) { return fmaf(-expf(float(log_p.e[j])), sum, float(d.e[j])); });
  });
}

// An infinite top is not taken out: infinity less infinity is no number.
template <class Team>
__global__ void make_logsumexp(Softmax s, bool at_once, const T* x, T* y) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  float top = largest_of(row.line, x + row.first);
  top = top - top == 0 ? top : 0;
  const double sum = sum_of_powers(row.line, x + row.first, top);
  if (Team::rank() == 0) y[row.number] = T(float(double(top) + ::log(sum)));
}

template <class Team>
__global__ void make_logsumexp_dx(Softmax s, bool at_once, const T* x, const T* y, const T* dy, T* dx) {
  const Row<Team> row(s, at_once);
  if (!row.inside) return;
  const float d = float(dy[row.number]), lse = float(y[row.number]);
  row.line.fill(dx + row.first, [&](int64_t c) {
    const Values<T> from = row.line.load(x + row.first, c);
    return make_pack<T>([&](int j) { return d * expf(float(from.e[j]) - lse); });
  });
}

// run(Team, grid)
template <class F>
void with_rows(const Softmax& s, const F& run) {
  const int64_t rows = s.outer * s.inner;
  if (rows == 0) return;
  if (s.inner > 1) return run(Team<1>{}, sample_grid<Team<1>>(rows));
  with_team(s.n, [&](auto team) { run(team, sample_grid<decltype(team)>(rows)); });
}

}  // namespace

// kernel<Team>(s, at_once, ...) on every row; ... are arrays, `rows` those among them that hold whole rows
#define LAUNCH(kernel, rows, ...)                                                                              \
  with_rows(s, [&](auto team, dim3 grid) {                                                                     \
    using Team = decltype(team);                                                                               \
    launch<typename Team::Warps>(context, kernel<Team>, grid, block_team, s, rows_in_packs rows, __VA_ARGS__); \
  })

void softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_softmax, (s.n, x, y), x, y); }
void softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) {
  LAUNCH(make_softmax_dx, (s.n, y, dy, dx), y, dy, dx);
}
void log_softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_log_softmax, (s.n, x, y), x, y); }
void log_softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) {
  LAUNCH(make_log_softmax_dx, (s.n, y, dy, dx), y, dy, dx);
}
void logsumexp_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_logsumexp, (s.n, x), x, y); }
void logsumexp_backward(const Context& context, const Softmax& s, const T* x, const T* y, const T* dy, T* dx) {
  LAUNCH(make_logsumexp_dx, (s.n, x, dx), x, y, dy, dx);
}

}  // namespace fastnn::FASTNN_TABLE
