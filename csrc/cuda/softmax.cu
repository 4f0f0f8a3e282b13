// Softmax, its logarithm and log-sum-exp along one axis, the largest element taken out. A row belongs to a team of threads where its
// elements are neighbours, else to one thread, so that neighbouring threads read neighbouring columns.
#include "samples.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// A thread's row: its first element, and how far apart its elements lie
struct Place {
  int64_t row, first;
  bool inside;
  __device__ __forceinline__ Place(const Softmax& s, int64_t row)
      : row(row), first(row / s.inner * s.n * s.inner + row % s.inner), inside(row < s.outer * s.inner) {}
};

template <class Team>
__global__ void make_softmax(Softmax s, const T* x, T* y) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  const LogSumExp lse = log_sum_exp<Team>(x + at.first, s.n, s.inner);
  const float share = float(::exp(-lse.log_sum));
  for (int64_t i = Team::rank(); i < s.n; i += Team::size)
    y[at.first + i * s.inner] = T(expf(float(x[at.first + i * s.inner]) - lse.top) * share);
}

template <class Team>
__global__ void make_softmax_dx(Softmax s, const T* y, const T* dy, T* dx) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  const auto where = [&](int64_t i) { return at.first + i * s.inner; };
  const float sum = float(team_sum<Team>(s.n, [&](int64_t i) { return float(y[where(i)]) * float(dy[where(i)]); }));
  for (int64_t i = Team::rank(); i < s.n; i += Team::size) dx[where(i)] = T(float(y[where(i)]) * (float(dy[where(i)]) - sum));
}

template <class Team>
__global__ void make_log_softmax(Softmax s, const T* x, T* y) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  const LogSumExp lse = log_sum_exp<Team>(x + at.first, s.n, s.inner);
  const float log_sum = float(lse.log_sum);
  for (int64_t i = Team::rank(); i < s.n; i += Team::size)
    y[at.first + i * s.inner] = T((float(x[at.first + i * s.inner]) - lse.top) - log_sum);
}

template <class Team>
__global__ void make_log_softmax_dx(Softmax s, const T* y, const T* dy, T* dx) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  const auto where = [&](int64_t i) { return at.first + i * s.inner; };
  const float sum = float(team_sum<Team>(s.n, [&](int64_t i) { return float(dy[where(i)]); }));
  for (int64_t i = Team::rank(); i < s.n; i += Team::size) dx[where(i)] = T(fmaf(-expf(float(y[where(i)])), sum, float(dy[where(i)])));
}

// An infinite top is not taken out: infinity less infinity is no number.
template <class Team>
__global__ void make_logsumexp(Softmax s, const T* x, T* y) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  float top = -INFINITY;
  for (int64_t i = Team::rank(); i < s.n; i += Team::size) top = fmaxf(top, float(x[at.first + i * s.inner]));
  top = Team::max(top);
  top = top - top == 0 ? top : 0;
  const double sum = team_sum<Team>(s.n, [&](int64_t i) { return expf(float(x[at.first + i * s.inner]) - top); });
  if (Team::rank() == 0) y[at.row] = T(float(double(top) + ::log(sum)));
}

template <class Team>
__global__ void make_logsumexp_dx(Softmax s, const T* x, const T* y, const T* dy, T* dx) {
  const Place at(s, Team::sample());
  if (!at.inside) return;
  for (int64_t i = at.first + Team::rank() * s.inner; i < at.first + s.n * s.inner; i += Team::size * s.inner)
    dx[i] = T(float(dy[at.row]) * expf(float(x[i]) - float(y[at.row])));
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

#define LAUNCH(kernel, ...)                                                                \
  with_rows(s, [&](auto team, dim3 grid) {                                                 \
    using Team = decltype(team);                                                           \
    launch<typename Team::Warps>(context, kernel<Team>, grid, block_team, s, __VA_ARGS__); \
  })

void softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_softmax, x, y); }
void softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) { LAUNCH(make_softmax_dx, y, dy, dx); }
void log_softmax_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_log_softmax, x, y); }
void log_softmax_backward(const Context& context, const Softmax& s, const T* y, const T* dy, T* dx) {
  LAUNCH(make_log_softmax_dx, y, dy, dx);
}
void logsumexp_forward(const Context& context, const Softmax& s, const T* x, T* y) { LAUNCH(make_logsumexp, x, y); }
void logsumexp_backward(const Context& context, const Softmax& s, const T* x, const T* y, const T* dy, T* dx) {
  LAUNCH(make_logsumexp_dx, x, y, dy, dx);
}

}  // namespace fastnn::FASTNN_TABLE
