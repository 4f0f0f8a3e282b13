// Softmax and cross-entropy in one: the log-sum-exp of each row is kept, the softmax never stored.
#include "elements.h"
#include "math.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_blocks = 256;  // whose sums wait on the stack

// At least 256th parts of the batch, so that the sums of all blocks have room; a function of the shape alone.
int64_t samples_per_block(const CrossEntropy& s) { return larger(larger(1, elements_per_block / 4 / s.C), divide_up(s.N, most_blocks)); }

// A vector of logits whose missing lanes read as `filler`.
template <class Load>
INLINE vec load_filled(const T* p, int64_t left, real filler, Load load) {
  const vec v = load(p);
  if (left >= N_LANES) return v;
  ivec lane;
  for (int i = 0; i < N_LANES; i++) lane[i] = integer(i);
  return select(lane < integer(left), v, set(filler));
}

INLINE real largest(const T* z, int64_t C) {
  vec m = set(-infinity);
  for_vectors(0, C, [&](int64_t c, auto load, auto) { m = max(m, load_filled(z + c, C - c, -infinity, load)); });
  real top = m[0];
  for (int i = 1; i < N_LANES; i++) top = top > m[i] ? top : m[i];
  return top;
}

INLINE double sum_exp(const T* z, int64_t C, real top) {
  constexpr int64_t stretch = 64 * N_LANES;  // beyond it float32 sums would lose digits
  double sum = 0;
  for (int64_t first = 0; first < C; first += stretch) {
    vec total{};
    for_vectors(first, smaller(first + stretch, C),
                [&](int64_t c, auto load, auto) { total += exp(load_filled(z + c, C - c, -infinity, load) - set(top)); });
    sum += double(sum_lanes(total));
  }
  return sum;
}

// sum over c of w[c] (top - z[c])
INLINE real sum_distances(const T* z, const R* w, int64_t C, real top) {
  vec total{};
  for_vectors(0, C, [&](int64_t c, auto load, auto) {
    const vec distance = set(top) - load_filled(z + c, C - c, top, load);
    total += w ? load(w + c) * distance : distance;
  });
  return sum_lanes(total);
}

INLINE double sum_weights(const CrossEntropy& s, const R* w) {
  double total = w ? 0 : double(s.C);
  for (int64_t c = 0; w && c < s.C; c++) total += w[c];
  return total;
}

}  // namespace

void cross_entropy_forward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight, R* loss,
                           R* lse, R* divisor) {
  const bool each = s.reduction == CrossEntropy::none, mean = s.reduction == CrossEntropy::mean;
  const double all_weights = s.smoothing > 0 ? sum_weights(s, weight) : 0, spread = s.smoothing / double(s.C);
  const int64_t per_block = samples_per_block(s), blocks = divide_up(s.N, per_block);
  double losses[most_blocks], counted[most_blocks];
  parallel(context, blocks, [&](int64_t block, int) {
    double block_loss = 0, block_counted = 0;
    for (int64_t i = block * per_block; i < smaller((block + 1) * per_block, s.N); i++) {
      const T* z = logits + i * s.C;
      const real top = largest(z, s.C);
      const double log_sum = __builtin_log(sum_exp(z, s.C, top));  // lse - top, kept apart from it: no digits lost to a large top
      lse[i] = R(double(top) + log_sum);
      double l = 0;
      if (const int64_t label = labels[i]; label != s.ignore_index) {
        const double w = weight ? weight[label] : 1;
        l = w * (1 - s.smoothing) * (log_sum + (double(top) - double(z[label])));
        if (s.smoothing > 0) l += spread * (double(sum_distances(z, weight, s.C, top)) + log_sum * all_weights);
        block_counted += w;
      }
      if (each) loss[i] = R(l);
      block_loss += l;
    }
    losses[block] = block_loss, counted[block] = block_counted;
  });
  double total = 0, count = 0;
  for (int64_t block = 0; block < blocks; block++) total += losses[block], count += counted[block];
  *divisor = mean ? R(count) : 1;
  if (!each) *loss = R(mean ? total / count : total);
}

// dz_c = (softmax_c (w_t (1 - e) + e / C sum w) - e / C w_c - [c = t] w_t (1 - e)) dloss / divisor
void cross_entropy_backward(const Context& context, const CrossEntropy& s, const T* logits, const i64* labels, const R* weight,
                            const R* lse, const R* divisor, const R* dloss, T* dx) {
  const double all_weights = s.smoothing > 0 ? sum_weights(s, weight) : 0, spread = s.smoothing / double(s.C);
  const bool each = s.reduction == CrossEntropy::none;
  const int64_t per_block = samples_per_block(s);
  parallel(context, divide_up(s.N, per_block), [&](int64_t block, int) {
    for (int64_t i = block * per_block; i < smaller((block + 1) * per_block, s.N); i++) {
      const T* z = logits + i * s.C;
      T* dz = dx + i * s.C;
      const int64_t label = labels[i];
      if (label == s.ignore_index) {
        __builtin_memset(dz, 0, size_t(s.C) * sizeof(T));
        continue;
      }
      const double scale = double(dloss[each ? i : 0]) / double(*divisor), hit = (weight ? weight[label] : 1) * (1 - s.smoothing);
      const vec share = set(real(scale * (hit + spread * all_weights))), even = set(real(scale * spread)), log_sum = set(lse[i]);
      for_vectors(0, s.C, [=](int64_t c, auto load, auto store) {
        const vec softmax = exp(load(z + c) - log_sum), w = weight ? load(weight + c) : set(1);
        store(dz + c, fma(share, softmax, -(even * w)));
      });
      dz[label] -= T(scale * hit);
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
