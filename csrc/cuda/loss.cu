// Softmax and cross-entropy in one: the log-sum-exp of each row is kept, the softmax never stored. And its second half alone, nll.
#include "samples.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// sum over c of w[c], which smoothing spreads
template <class Team>
__device__ double sum_weights(const Line<Team>& line, const CrossEntropy& s, const R* weight) {
  if (!weight || s.smoothing == 0) return double(s.C);
  return line.sum([&](int64_t c) {
    const Values<R> w = line.load(weight, c);
    return make_pack<double>([&](int j) { return double(w.e[j]); });
  });
}

// Labels of a GPU are not read by the host, which would have to wait for them: one that names no class makes its sample NaN.
__device__ __forceinline__ bool names_class(int64_t label, int64_t C) { return label >= 0 && label < C; }

__device__ __forceinline__ double scale_of(Reduction reduction, const R* dloss, int64_t i, double divisor) {
  return double(dloss[reduction == Reduction::none ? i : 0]) / divisor;
}

template <class Team>
__global__ void cross_entropy_of_samples(CrossEntropy s, bool at_once, const T* logits, const i64* labels, const R* weight, R* top,
                                         R* log_sum, SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const Line<Team> line = {s.C, 1, at_once};
  const T* z = logits + i * s.C;
  const LogSumExp lse = log_sum_exp(line, z);
  const int64_t label = labels[i];
  double l = 0, w = 0;
  if (label != s.ignore_index && !names_class(label, s.C)) {
    l = w = NAN;
  } else if (label != s.ignore_index) {
    w = weight_of(weight, label);
    l = w * (1 - s.smoothing) * (lse.log_sum + (double(lse.top) - double(float(z[label]))));
    if (s.smoothing > 0) {
      const double distances = line.sum([&](int64_t c) {
        const Values<R> of_class = weights_of(line, weight, c);
        const Values<T> from = line.load(z, c);
        return make_pack<double>([&](int j) { return double(of_class.e[j]) * (double(lse.top) - double(float(from.e[j]))); });
      });
      l += s.smoothing / double(s.C) * (distances + lse.log_sum * sum_weights(line, s, weight));
    }
  }
  if (Team::rank() != 0) return;
  top[i] = lse.top, log_sum[i] = R(lse.log_sum);
  losses.put(i, l, w);
}

// dz_c = (softmax_c (w_t (1 - e) + e / C sum w) - e / C w_c - [c = t] w_t (1 - e)) dloss / divisor
template <class Team>
__global__ void cross_entropy_dx(CrossEntropy s, bool at_once, const T* logits, const i64* labels, const R* weight, const R* top,
                                 const R* log_sum, const R* divisor, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const Line<Team> line = {s.C, 1, at_once};
  const T* z = logits + i * s.C;
  const int64_t label = labels[i];
  const bool counts = label != s.ignore_index;
  const double all_weights = sum_weights(line, s, weight), spread = s.smoothing / double(s.C);
  const double scale = scale_of(s.reduction, dloss, i, double(*divisor));
  const double hit = !counts ? 0 : names_class(label, s.C) ? weight_of(weight, label) * (1 - s.smoothing) : NAN;
  const float share = float(scale * (hit + spread * all_weights)), even = float(scale * spread), of_label = float(scale * hit);
  const float of_top = top[i], of_log_sum = log_sum[i];
  line.fill(dx + i * s.C, [&](int64_t c) {
    const Values<T> from = line.load(z, c);
    const Values<R> of_class = weights_of(line, weight, c);
    return make_pack<T>([&](int j) {
      const float softmax = expf((float(from.e[j]) - of_top) - of_log_sum);
      const float d = fmaf(share, softmax, -(even * float(of_class.e[j])));
      return !counts ? 0.0f : c + j == label ? d - of_label : d;
    });
  });
}

// q[c] = w[c] ((1 - e) t[c] + e / C)
template <class Team>
__device__ __forceinline__ Values<double> soft_targets(const Line<Team>& line, const SoftCrossEntropy& s, const R* target, const R* weight,
                                                       int64_t c) {
  const Values<R> t = line.load(target, c), w = weights_of(line, weight, c);
  return make_pack<double>([&](int j) { return double(w.e[j]) * ((1 - s.smoothing) * double(t.e[j]) + s.smoothing / double(s.C)); });
}

template <class Team>
__global__ void soft_cross_entropy_of_samples(SoftCrossEntropy s, bool at_once, const T* logits, const R* target, const R* weight, R* top,
                                              R* log_sum, SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const Line<Team> line = {s.C, 1, at_once};
  const T* z = logits + i * s.C;
  const LogSumExp lse = log_sum_exp(line, z);
  const double l = line.sum([&](int64_t c) {
    const Values<double> q = soft_targets(line, s, target + i * s.C, weight, c);
    const Values<T> from = line.load(z, c);
    return make_pack<double>(
        [&](int j) { return q.e[j] == 0 ? 0 : q.e[j] * (lse.log_sum + (double(lse.top) - double(float(from.e[j])))); });
  });
  if (Team::rank() != 0) return;
  top[i] = lse.top, log_sum[i] = R(lse.log_sum);
  losses.put(i, l, 1);
}

// dz_c = (softmax_c sum q - q_c) dloss / divisor
template <class Team>
__global__ void soft_cross_entropy_dx(SoftCrossEntropy s, bool at_once, const T* logits, const R* target, const R* weight, const R* top,
                                      const R* log_sum, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const Line<Team> line = {s.C, 1, at_once};
  const T* z = logits + i * s.C;
  const auto targets = [&](int64_t c) { return soft_targets(line, s, target + i * s.C, weight, c); };
  const double scale = scale_of(s.reduction, dloss, i, s.reduction == Reduction::mean ? double(s.N) : 1);
  const float share = float(scale * line.sum(targets)), of_top = top[i], of_log_sum = log_sum[i];
  line.fill(dx + i * s.C, [&](int64_t c) {
    const Values<T> from = line.load(z, c);
    const Values<double> q = targets(c);
    return make_pack<T>([&](int j) {
      const float softmax = expf((float(from.e[j]) - of_top) - of_log_sum);
      return fmaf(share, softmax, -float(scale * q.e[j]));
    });
  });
}

// A thread a sample: of each row only the label's element is read.
__global__ void nll_of_samples(CrossEntropy s, const T* log_p, const i64* labels, const R* weight, SampleLosses losses) {
  const int64_t i = Team<1>::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  if (label == s.ignore_index) return losses.put(i, 0, 0);
  if (!names_class(label, s.C)) return losses.put(i, NAN, NAN);
  const double w = weight_of(weight, label);
  losses.put(i, -w * double(float(log_p[i * s.C + label])), w);
}

template <class Team>
__global__ void nll_dx(CrossEntropy s, bool at_once, const i64* labels, const R* weight, const R* divisor, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const bool ignored = label == s.ignore_index, wrong = !ignored && !names_class(label, s.C);
  float d = 0;
  if (!ignored) d = wrong ? NAN : float(-weight_of(weight, label) * scale_of(s.reduction, dloss, i, double(*divisor)));
  Line<Team>{s.C, 1, at_once}.fill(dx + i * s.C,
                                   [&](int64_t c) { return make_pack<T>([&](int j) { return wrong || c + j == label ? d : 0.0f; }); });
}

// Packs of max(0, v) of v = margin - z[label] + z[c], 0 for the label itself; NaN stays NaN
template <class Team>
struct Violations {
  Line<Team> line;
  const T* z;
  int64_t label;
  float margin, of_label;
  __device__ __forceinline__ Violations(const MultiMargin& s, bool at_once, const T* z, int64_t label)
      : line{s.C, 1, at_once}, z(z), label(label), margin(float(s.margin)), of_label(names_class(label, s.C) ? float(z[label]) : NAN) {}
  __device__ __forceinline__ Values<float> at(int64_t c) const {
    const Values<T> from = line.load(z, c);
    return make_pack<float>([&](int j) {
      const float v = (margin - of_label) + float(from.e[j]);
      return c + j == label || v <= 0 ? 0 : v;
    });
  }
};

__device__ __forceinline__ double weight_of_label(const R* weight, int64_t label, int64_t C) {
  return names_class(label, C) ? weight_of(weight, label) : 1;
}

template <class Team>
__global__ void multi_margin_of_samples(MultiMargin s, bool at_once, const T* scores, const i64* labels, const R* weight,
                                        SampleLosses losses) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const Violations<Team> violations(s, at_once, scores + i * s.C, labels[i]);
  const double l = violations.line.sum([&](int64_t c) {
    const Values<float> v = violations.at(c);
    return make_pack<float>([&](int j) { return s.p == 1 ? v.e[j] : v.e[j] * v.e[j]; });
  });
  if (Team::rank() == 0) losses.put(i, s.scale * weight_of_label(weight, labels[i], s.C) * l, 1);
}

// dz_c = scale w_t [v_c > 0] p v_c^(p-1) dloss / divisor for c != t, and dz_t is minus their sum
template <class Team>
__global__ void multi_margin_dx(MultiMargin s, bool at_once, const T* scores, const i64* labels, const R* weight, const R* dloss, T* dx) {
  const int64_t i = Team::sample();
  if (i >= s.N) return;
  const int64_t label = labels[i];
  const Violations<Team> violations(s, at_once, scores + i * s.C, label);
  const double scale =
      scale_of(s.reduction, dloss, i, s.reduction == Reduction::mean ? double(s.N) : 1) * s.scale * weight_of_label(weight, label, s.C);
  const float once = float(scale), twice = float(2 * scale);
  const auto slopes = [&](int64_t c) {
    const Values<float> v = violations.at(c);
    return make_pack<float>([&](int j) { return s.p == 2 ? twice * v.e[j] : v.e[j] > 0 ? once : v.e[j]; });
  };
  const float of_label = -float(violations.line.sum(slopes));
  violations.line.fill(dx + i * s.C, [&](int64_t c) {
    const Values<float> d = slopes(c);
    return make_pack<T>([&](int j) { return c + j == label ? of_label : d.e[j]; });
  });
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
    launch<typename Team::Warps>(context, cross_entropy_of_samples<Team>, sample_grid<Team>(s.N), block_team, s,
                                 rows_in_packs(s.C, logits, weight), logits, labels, weight, top, log_sum, losses);
  });
  add_up(context, losses, divisor);
}

void cross_entropy_backward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight,
                            const R* top, const R* log_sum, const R* divisor, const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, cross_entropy_dx<Team>, sample_grid<Team>(s.N), block_team, s,
                                 rows_in_packs(s.C, logits, weight, dx), logits, labels, weight, top, log_sum, divisor, dloss, dx);
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
    launch<typename Team::Warps>(context, soft_cross_entropy_of_samples<Team>, sample_grid<Team>(s.N), block_team, s,
                                 rows_in_packs(s.C, logits, target, weight), logits, target, weight, top, log_sum, losses);
  });
  add_up(context, losses);
}

void soft_cross_entropy_backward(const Context& context, const SoftCrossEntropy& s, const T* logits, const R* target, const R* weight,
                                 const R* top, const R* log_sum, const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, soft_cross_entropy_dx<Team>, sample_grid<Team>(s.N), block_team, s,
                                 rows_in_packs(s.C, logits, target, weight, dx), logits, target, weight, top, log_sum, dloss, dx);
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
    launch(context, nll_dx<Team>, sample_grid<Team>(s.N), block_team, s, rows_in_packs(s.C, dx), labels, weight, divisor, dloss, dx);
  });
}

Plan multi_margin_forward_plan(const Context&, const MultiMargin& s) { return {"samples", SampleLosses::scratch_bytes(s.reduction, s.N)}; }

void multi_margin_forward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight, R* loss,
                          void* scratch) {
  const SampleLosses losses(loss, s.reduction, s.N, scratch);
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, multi_margin_of_samples<Team>, sample_grid<Team>(s.N), block_team, s, rows_in_packs(s.C, scores),
                                 scores, labels, weight, losses);
  });
  add_up(context, losses);
}

void multi_margin_backward(const Context& context, const MultiMargin& s, const T* scores, const i64* labels, const R* weight,
                           const R* dloss, T* dx) {
  with_team(s.C, [&](auto team) {
    using Team = decltype(team);
    launch<typename Team::Warps>(context, multi_margin_dx<Team>, sample_grid<Team>(s.N), block_team, s, rows_in_packs(s.C, scores, dx),
                                 scores, labels, weight, dloss, dx);
  });
}

}  // namespace fastnn::FASTNN_TABLE
