// Which inputs an output of an axis is made of, and which outputs an input takes part in: for kernels of the CPU and of CUDA.
#pragma once
#include "prototypes.h"
#include "random.h"
#include "shared.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Range {
  int64_t begin, end;
};

FASTNN_SHARED int64_t at_least(int64_t least, int64_t a) { return a < least ? least : a; }
FASTNN_SHARED int64_t at_most(int64_t most, int64_t a) { return a > most ? most : a; }

// --- average pooling

// Share i when `size` things are divided among `count`: every thing is in one share at least, neighbours may overlap by one.
FASTNN_SHARED Range share_of(int64_t i, int64_t size, int64_t count) { return {i * size / count, ((i + 1) * size + count - 1) / count}; }

// The inputs of output i.
FASTNN_SHARED Range window_of(const PoolAxis& a, int64_t i) {
  if (a.adaptive) return share_of(i, a.size, a.count);
  const int64_t begin = i * a.stride - a.pad;
  return {at_least(0, begin), at_most(a.size, begin + a.window)};
}

// How many pixels the window of output i counts.
FASTNN_SHARED int64_t pixels_of(const PoolAxis& a, int64_t i, bool count_padding) {
  const Range inside = window_of(a, i);
  if (a.adaptive || !count_padding) return inside.end - inside.begin;
  const int64_t begin = i * a.stride - a.pad;
  return at_most(a.size + a.pad, begin + a.window) - begin;
}

// The outputs whose windows have input h.
FASTNN_SHARED Range windows_over(const PoolAxis& a, int64_t h) {
  if (a.adaptive) return share_of(h, a.count, a.size);
  const int64_t place = h + a.pad;
  return {place < a.window ? 0 : (place - a.window) / a.stride + 1, at_most(a.count, place / a.stride + 1)};
}

FASTNN_SHARED int64_t divisor_of(const AvgPool2d& s, int64_t p, int64_t q) {
  return s.divisor_override ? s.divisor_override : pixels_of(s.h, p, s.count_include_pad) * pixels_of(s.w, q, s.count_include_pad);
}

// --- maps of another size

struct Taps {  // (1 - weight) x[low] + weight x[high]
  int64_t low, high;
  double weight;
};

FASTNN_SHARED Taps taps_of(const ResampleAxis& a, int64_t i) {
  if (!a.linear) {  // PyTorch's roundings
    const int64_t below = at_most(a.size - 1, int64_t(float(i) * float(a.numerator / a.denominator)));
    return {below, below, 0};
  }
  const double place = (double(i) + a.shift) * a.numerator / a.denominator - a.shift;
  const int64_t low = at_most(a.size - 1, place > 0 ? int64_t(place) : 0);
  if (low == a.size - 1 || !(place > 0)) return {low, low, 0};
  return {low, low + 1, place - double(low)};
}

// An output not behind the first one that reads input h.
FASTNN_SHARED int64_t first_reader(const ResampleAxis& a, int64_t h) {
  if (a.numerator == 0) return 0;
  const double place = (double(h - 1) + a.shift) * a.denominator / a.numerator - a.shift - 1;
  return at_most(a.count, place > 0 ? int64_t(place) : 0);
}

// --- regions of fractional max pooling

struct Regions {  // of one sample and axis
  int64_t size, window, count;
};

// put(i, begin) for each region; word(j) is the j-th random word of the sample's axis.
template <class Word, class Put>
FASTNN_SHARED void lay_regions(const Regions& r, bool pseudo_random, const Word& word, const Put& put) {
  const int64_t total = r.size - r.window, steps = r.count - 1;
  if (pseudo_random) {
    const uint64_t u = steps ? word(0) : 0, per_step = uint64_t(steps) << 32;
    for (int64_t i = 0; i < steps; i++)
      put(i, int64_t(((uint64_t(i) << 32) + u) * uint64_t(total) / per_step) - int64_t(u * uint64_t(total) / per_step));
  } else {
    int64_t begin = 0, longer = steps ? total % steps : 0;  // steps that are one longer than the others, still to come
    for (int64_t i = 0; i < steps; i++) {
      put(i, begin);
      const int64_t left = steps - i, is_longer = int64_t(uint64_t(word(i)) * uint64_t(left) >> 32) < longer;
      begin += total / steps + is_longer, longer -= is_longer;
    }
  }
  put(steps, total);
}

// Writes the regions of sample n: begins of rows and columns, then their ends.
FASTNN_SHARED void lay_regions_of_sample(const FractionalRegions& s, const int64_t* state, int64_t n, int64_t* regions) {
  const int64_t count = s.P + s.Q;
  for (int axis = 0; axis < 2; axis++) {
    const int64_t first = axis ? s.P : 0;
    const Regions r = axis ? Regions{s.W, s.S, s.Q} : Regions{s.H, s.R, s.P};
    int64_t* const begins = regions + n * 2 * count + first;
    lay_regions(
        r, s.pseudo_random,
        [&](int64_t j) {
          const uint64_t i = uint64_t((s.offset + n) * count + first + j);
          return philox(uint64_t(state[0]), i / 4, uint64_t(state[1] + s.draw), purpose_net).w[i % 4];
        },
        [&](int64_t i, int64_t begin) { begins[i] = begin, begins[count + i] = begin + r.window; });
  }
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
