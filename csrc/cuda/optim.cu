// Optimizer steps: all parameters in one launch. A rule per optimizer turns an element of the weights into the next one.
#include "update.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// A rule has `columns` of rates and `states` arrays beside w and g. prepare(row, t) fills it in; keeps(k) says whether array k is in use;
// step(w, g, state) returns the new weight and changes the state.
struct Descent {
  static constexpr int columns = 6, states = 1;
  R rate, decay, momentum, fresh, sign;
  bool has_momentum, nesterov;

  __device__ void prepare(const f64* rates, i64 t) {
    rate = R(-rates[0]), decay = R(rates[1]), momentum = R(rates[2]);
    has_momentum = rates[2] != 0, nesterov = rates[3] != 0;
    fresh = t == 1 ? R(1) : R(1 - rates[4]), sign = R(rates[5]);
  }
  __device__ __forceinline__ bool keeps(int) const { return has_momentum; }
  __device__ __forceinline__ R step(R w, R g, R (&state)[states]) const {
    R d = fmaf(decay, w, sign * g);
    if (has_momentum) {
      state[0] = fmaf(momentum, state[0], fresh * d);
      d = nesterov ? fmaf(momentum, state[0], d) : state[0];
    }
    return fmaf(rate, d, w);
  }
};

struct AdamRule {
  static constexpr int columns = 8, states = 3;
  R rate, decay, shrink;  // w = shrink w - rate m / (sqrt(v) root_correction + eps)
  R beta1, new_m, beta2, new_v, eps, root_correction, sign;
  bool amsgrad;

  __device__ void prepare(const f64* rates, i64 t) {
    const double lr = rates[0], weight_decay = rates[1], first = rates[2], second = rates[3];
    const bool decoupled = rates[5] != 0;
    rate = R(-lr / (1 - ::pow(first, double(t))));
    decay = decoupled ? 0 : R(weight_decay);
    shrink = decoupled ? R(1 - lr * weight_decay) : 1;
    beta1 = R(first), new_m = R(1 - first), beta2 = R(second), new_v = R(1 - second), eps = R(rates[4]);
    root_correction = R(1 / ::sqrt(1 - ::pow(second, double(t))));
    amsgrad = rates[6] != 0, sign = R(rates[7]);
  }
  __device__ __forceinline__ bool keeps(int k) const { return k < 2 || amsgrad; }
  __device__ __forceinline__ R step(R w, R g, R (&state)[states]) const {
    const R d = fmaf(decay, w, sign * g);
    state[0] = fmaf(new_m, d, beta1 * state[0]);
    R second = state[1] = fmaf(new_v * d, d, beta2 * state[1]);
    if (amsgrad) second = state[2] = state[2] > second ? state[2] : second;  // NaN in the new one stays
    return fmaf(rate, state[0] / fmaf(sqrtf(second), root_correction, eps), w * shrink);
  }
};

struct AdagradRule {
  static constexpr int columns = 5, states = 1;
  R rate, decay, eps, sign;

  __device__ void prepare(const f64* rates, i64 t) {
    rate = R(-rates[0] / (1 + double(t - 1) * rates[2])), decay = R(rates[1]), eps = R(rates[3]), sign = R(rates[4]);
  }
  __device__ __forceinline__ bool keeps(int) const { return true; }
  __device__ __forceinline__ R step(R w, R g, R (&state)[states]) const {
    const R d = fmaf(decay, w, sign * g);
    state[0] = fmaf(d, d, state[0]);
    return fmaf(rate, d / (sqrtf(state[0]) + eps), w);
  }
};

struct RMSpropRule {
  static constexpr int columns = 7, states = 3;
  R rate, decay, alpha, fresh, eps, momentum, sign;
  bool has_momentum, centered;

  __device__ void prepare(const f64* rates, i64) {
    rate = R(-rates[0]), decay = R(rates[1]), alpha = R(rates[2]), fresh = R(1 - rates[2]), eps = R(rates[3]);
    momentum = R(rates[4]), has_momentum = rates[4] != 0, centered = rates[5] != 0, sign = R(rates[6]);
  }
  __device__ __forceinline__ bool keeps(int k) const { return k == 0 || (k == 1 ? centered : has_momentum); }
  __device__ __forceinline__ R step(R w, R g, R (&state)[states]) const {
    const R d = fmaf(decay, w, sign * g);
    R square = state[0] = fmaf(fresh * d, d, alpha * state[0]);
    if (centered) {
      state[1] = fmaf(fresh, d, alpha * state[1]);
      square -= state[1] * state[1];
      square = square < 0 ? 0 : square;  // rounding may bring a variance of 0 below it; NaN stays
    }
    R q = d / (sqrtf(square) + eps);
    if (has_momentum) q = state[2] = fmaf(momentum, state[2], q);
    return fmaf(rate, q, w);
  }
};

template <class Rule>
struct BlockMemory {
  Rule rule;
  SumsOfWarps sums;
};

template <class Rule>
__global__ void update(Batch<2 + Rule::states> batch, const i64* group, const f64* rates, const i64* t, MovedTarget moved, int64_t first) {
  constexpr int states = Rule::states;
  const int block = int(blockIdx.x);
  const Piece piece = piece_of(batch, block);
  BlockMemory<Rule>& memory = shared<BlockMemory<Rule>>();
  if (threadIdx.x == 0) memory.rule.prepare(rates + group[piece.parameter] * Rule::columns, t[piece.parameter]);
  __syncthreads();
  const Rule rule = memory.rule;
  R* const w = array_of(batch, piece, 0);
  const R* const g = array_of(batch, piece, 1);
  R* state[states];
  UNROLL for (int s = 0; s < states; s++) state[s] = array_of(batch, piece, 2 + s);
  R change = 0, size = 0;
  for_quads(piece, [&](int64_t i, int64_t left) {
    Quad weight = load_some<4>(w + i, left, batch.at_once);
    const Quad gradient = load_some<4>(g + i, left, batch.at_once);
    Quad kept[states];
    UNROLL for (int s = 0; s < states; s++) kept[s] = rule.keeps(s) ? load_some<4>(state[s] + i, left, batch.at_once) : Quad{};
    UNROLL for (int k = 0; k < 4; k++) {
      R own[states];
      UNROLL for (int s = 0; s < states; s++) own[s] = kept[s].e[k];
      const R before = weight.e[k], after = rule.step(before, gradient.e[k], own);
      UNROLL for (int s = 0; s < states; s++) kept[s].e[k] = own[s];
      weight.e[k] = after;
      if (moved.pieces && k < left) change = fmaf(after - before, after - before, change), size = fmaf(before, before, size);
    }
    UNROLL for (int s = 0; s < states; s++) {
      if (rule.keeps(s)) store_some(state[s] + i, kept[s], left, batch.at_once);
    }
    store_some(w + i, weight, left, batch.at_once);
  });
  if (!moved.pieces) return;
  const PairOfSums sums = block_sums(change, size, memory.sums);
  if (threadIdx.x == 0) moved.store(first + block, sums);
}

template <class Rule>
void run(const Context& context, const Update& s, const List<R>& w, const R* const* const (&data)[2 + Rule::states], const i64* group,
         const f64* rates, const i64* t, f64* moved) {
  const MovedTarget target = {reinterpret_cast<PairOfSums*>(moved), s.pieces};
  for_batches(w, data, [&](const Batch<2 + Rule::states>& batch, const First& first) {
    launch<BlockMemory<Rule>>(context, update<Rule>, dim3(unsigned(batch.blocks)), update_threads, batch, group + first.parameter, rates,
                              t + first.parameter, target, first.piece);
  });
}

}  // namespace

void sgd_step(const Context& context, const SGD& s, const List<R>& w, const List<const R>& g, const List<R>& v, const i64* group,
              const f64* rates, const i64* t, f64* moved) {
  run<Descent>(context, s, w, {w.data, g.data, v.data}, group, rates, t, moved);
}

void adam_step(const Context& context, const Adam& s, const List<R>& w, const List<const R>& g, const List<R>& m, const List<R>& v,
               const List<R>& top, const i64* group, const f64* rates, const i64* t, f64* moved) {
  run<AdamRule>(context, s, w, {w.data, g.data, m.data, v.data, top.data}, group, rates, t, moved);
}

void adagrad_step(const Context& context, const Adagrad& a, const List<R>& w, const List<const R>& g, const List<R>& s, const i64* group,
                  const f64* rates, const i64* t, f64* moved) {
  run<AdagradRule>(context, a, w, {w.data, g.data, s.data}, group, rates, t, moved);
}

void rmsprop_step(const Context& context, const RMSprop& r, const List<R>& w, const List<const R>& g, const List<R>& s, const List<R>& m,
                  const List<R>& v, const i64* group, const f64* rates, const i64* t, f64* moved) {
  run<RMSpropRule>(context, r, w, {w.data, g.data, s.data, m.data, v.data}, group, rates, t, moved);
}

}  // namespace fastnn::FASTNN_TABLE
