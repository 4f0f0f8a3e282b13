// Softmax and cross-entropy in one: the log-sum-exp of each row is kept, the softmax never stored. And its second half alone, nll.
#include "samples.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// sum over c of w[c], which smoothing spreads
template <class Team>
__device__ double sum_weights(const CrossEntropy& s, const R* weight) {
  if (!weight || s.smoothing == 0) return double(s.C);
  return team_sum<Team>(s.C, [&](int64_t c) { return weight[c]; });
}

__device__ __forceinline__ double scale_of(Reduction reduction, const R* dloss, int64_t i, double divisor) {
  return double(dloss[reduction == Reduction::none ? i : 0]) / divisor;
}

template <class Team>
__global__ void cross_entropy_of_samples(CrossEntropy s, const T* logits, const i64* labels, const R* weight, R* top, R* log_sum,
                                         SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  const LogSumExp lse = log_sum_exp<Team>(z, s.C);
  const int64_t label = labels[i];
  double l = 0, w = 0;
  if (label != s.ignore_index) {
    w = weight_of(weight, label);
    l = w * (1 - s.smoothing) * (lse.log_sum + (double(lse.top) - double(float(z[label]))));
    if (s.smoothing > 0) {
      const double distances =
          team_sum<Team>(s.C, [&](int64_t c) { return weight_of(weight, c) * (double(lse.top) - double(float(z[c]))); });
      l += s.smoothing / double(s.C) * (distances + lse.log_sum * sum_weights<Team>(s, weight));
    }
  }
  if (Team::rank() != 0) return;
  top[i] = lse.top, log_sum[i] = R(lse.log_sum);
  losses.put(i, l, w);
}

// dz_c = (softmax_c (w_t (1 - e) + e / C sum w) - e / C w_c - [c = t] w_t (1 - e)) dloss / divisor
template <class Team>
__global__ void cross_entropy_dx(CrossEntropy s, const T* logits, const i64* labels, const R* weight, const R* top, const R* log_sum,
                                 const R* divisor, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  T* dz = dx + i * s.C;
  const int64_t label = labels[i];
  const bool counts = label != s.ignore_index;
  const double all_weights = sum_weights<Team>(s, weight), spread = s.smoothing / double(s.C);
  const double scale = scale_of(s.reduction, dloss, i, double(*divisor));
  const double hit = counts ? weight_of(weight, label) * (1 - s.smoothing) : 0;
  const float share = float(scale * (hit + spread * all_weights)), even = float(scale * spread), of_label = float(scale * hit);
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) {
    const float softmax = expf((float(z[c]) - top[i]) - log_sum[i]);
    const float d = fmaf(share, softmax, -(even * float(weight_of(weight, c))));
    dz[c] = T(!counts ? 0.0f : c == label ? d - of_label : d);
  }
}

// q[c] = w[c] ((1 - e) t[c] + e / C)
__device__ __forceinline__ double soft_target(const SoftCrossEntropy& s, const R* target, const R* weight, int64_t c) {
  return weight_of(weight, c) * ((1 - s.smoothing) * double(target[c]) + s.smoothing / double(s.C));
}

template <class Team>
__global__ void soft_cross_entropy_of_samples(SoftCrossEntropy s, const T* logits, const R* target, const R* weight, R* top, R* log_sum,
                                              SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  const LogSumExp lse = log_sum_exp<Team>(z, s.C);
  const double l = team_sum<Team>(s.C, [&](int64_t c) {
    const double q = soft_target(s, target + i * s.C, weight, c);
    return q == 0 ? 0 : q * (lse.log_sum + (double(lse.top) - double(float(z[c]))));
  });
  if (Team::rank() != 0) return;
  top[i] = lse.top, log_sum[i] = R(lse.log_sum);
  losses.put(i, l, 1);
}

// dz_c = (softmax_c sum q - q_c) dloss / divisor
template <class Team>
__global__ void soft_cross_entropy_dx(SoftCrossEntropy s, const T* logits, const R* target, const R* weight, const R* top, const R* log_sum,
                                      const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const T* z = logits + i * s.C;
  const R* t = target + i * s.C;
  const double scale = scale_of(s.reduction, dloss, i, s.reduction == Reduction::mean ? double(s.N) : 1);
  const float share = float(scale * team_sum<Team>(s.C, [&](int64_t c) { return soft_target(s, t, weight, c); }));
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) {
    const float softmax = expf((float(z[c]) - top[i]) - log_sum[i]);
    dx[i * s.C + c] = T(fmaf(share, softmax, -float(scale * soft_target(s, t, weight, c))));
  }
}

__global__ void nll_of_samples(CrossEntropy s, const T* log_p, const i64* labels, const R* weight, SampleLosses losses) {
  const int64_t i = Team<1>::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const bool counts = label != s.ignore_index;
  const double w = counts ? weight_of(weight, label) : 0;
  losses.put(i, counts ? -w * double(float(log_p[i * s.C + label])) : 0, w);
}

template <class Team>
__global__ void nll_dx(CrossEntropy s, const i64* labels, const R* weight, const R* divisor, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const bool counts = label != s.ignore_index;
  const float d = counts ? float(-weight_of(weight, label) * scale_of(s.reduction, dloss, i, double(*divisor))) : 0;
  for (int64_t c = Team::rank(); c < s.C; c += Team::size) dx[i * s.C + c] = T(counts && c == label ? d : 0.0f);
}

// max(0, v) of v = margin - z[label] + z[c]; NaN stays NaN
__device__ __forceinline__ float violation(const MultiMargin& s, const T* z, int64_t label, int64_t c) {
  const float v = (float(s.margin) - float(z[label])) + float(z[c]);
  return v <= 0 ? 0 : v;
}

template <class Team>
__global__ void multi_margin_of_samples(MultiMargin s, const T* scores, const i64* labels, const R* weight, SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const double l = team_sum<Team>(s.C, [&](int64_t c) {
    const float v = c == label ? 0 : violation(s, scores + i * s.C, label, c);
    return s.p == 1 ? v : v * v;
  });
  if (Team::rank() == 0) losses.put(i, s.scale * weight_of(weight, label) * l, 1);
}

// dz_c = scale w_t [v_c > 0] p v_c^(p-1) dloss / divisor for c != t, and dz_t is minus their sum
template <class Team>
__global__ void multi_margin_dx(MultiMargin s, const T* scores, const i64* labels, const R* weight, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const double scale =
      scale_of(s.reduction, dloss, i, s.reduction == Reduction::mean ? double(s.N) : 1) * s.scale * weight_of(weight, label);
  const float once = float(scale), twice = float(2 * scale);
  const double all = team_sum<Team>(s.C, [&](int64_t c) {
    const float v = c == label ? 0 : violation(s, scores + i * s.C, label, c);
    const float d = s.p == 2 ? twice * v : v > 0 ? once : v;
    if (c != label) dx[i * s.C + c] = T(d);
    return d;
  });
  if (Team::rank() == 0) dx[i * s.C + label] = T(float(-all));
}

}  // namespace

Plan cross_entropy_forward_plan(const Context&, const CrossEntropy& s) {
  return {"samples", SampleLosses::scratch_bytes(s.reduction, s.N)};
}

void cross_entropy_forward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight, R* loss,
                           R* top, R* log_sum, R* divisor, void* scratch) {
  const SampleLosses losses(loss, s.reduction, s.N, scratch);
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, cross_entropy_of_samples<Team>, sample_grid<Team>(s.N), block_team, s, logits, labels, weight,
                                 top, log_sum, losses);
  });
  add_up(context, losses, divisor);
}

void cross_entropy_backward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight,
                            const R* top, const R* log_sum, const R* divisor, const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, cross_entropy_dx<Team>, sample_grid<Team>(s.N), block_team, s, logits, labels, weight, top,
                                 log_sum, divisor, dloss, dx);
  });
}

Plan soft_cross_entropy_forward_plan(const Context&, const SoftCrossEntropy& s) {
  return {"samples", SampleLosses::scratch_bytes(s.reduction, s.N)};
}

void soft_cross_entropy_forward(const Context& context, const SoftCrossEntropy& s, const T* logits, const R* target, const R* weight,
                                R* loss, R* top, R* log_sum, void* scratch) {
  const SampleLosses losses(loss, s.reduction, s.N, scratch);
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, soft_cross_entropy_of_samples<Team>, sample_grid<Team>(s.N), block_team, s, logits, target,
                                 weight, top, log_sum, losses);
  });
  add_up(context, losses);
}

void soft_cross_entropy_backward(const Context& context, const SoftCrossEntropy& s, const T* logits, const R* target, const R* weight,
                                 const R* top, const R* log_sum, const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, soft_cross_entropy_dx<Team>, sample_grid<Team>(s.N), block_team, s, logits, target, weight, top,
                                 log_sum, dloss, dx);
  });
}

Plan nll_forward_plan(const Context&, const CrossEntropy& s) { return {"samples", SampleLosses::scratch_bytes(s.reduction, s.N)}; }

void nll_forward(const Context& context, const CrossEntropy& s, const T* log_p, const i64* labels, const R* weight, R* loss, R* divisor,
                 void* scratch) {
  const SampleLosses losses(loss, s.reduction, s.N, scratch);
  launch(context, nll_of_samples, sample_grid<Team<1>>(s.N), block_team, s, log_p, labels, weight, losses);
  add_up(context, losses, divisor);
}

void nll_backward(const Context& context, const CrossEntropy& s, const T*, const i64* labels, const R* weight, const R* divisor,
                  const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch(context, nll_dx<Team>, sample_grid<Team>(s.N), block_team, s, labels, weight, divisor, dloss, dx);
  });
}

Plan multi_margin_forward_plan(const Context&, const MultiMargin& s) { return {"samples", SampleLosses::scratch_bytes(s.reduction, s.N)}; }

void multi_margin_forward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight, R* loss,
                          void* scratch) {
  const SampleLosses losses(loss, s.reduction, s.N, scratch);
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, multi_margin_of_samples<Team>, sample_grid<Team>(s.N), block_team, s, scores, labels, weight,
                                 losses);
  });
  add_up(context, losses);
}

void multi_margin_backward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight,
                           const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, multi_margin_dx<Team>, sample_grid<Team>(s.N), block_team, s, scores, labels, weight, dloss, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
