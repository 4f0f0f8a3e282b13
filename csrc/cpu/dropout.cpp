// Dropout of single elements and of whole groups, Gaussian noise, and raw random bits.
#include "math.h"
#include "philox.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t group_stretch = 256;  // columns whose words wait on the stack

// kept[c] = whether word first + c is kept, for n columns
INLINE void draw_kept(const GroupDropout& s, const i64* state, int64_t first, int64_t n, bool* kept) {
  Words words{};
  int64_t block = -1;
  for (int64_t c = 0; c < n; c++) {
    const int64_t at = first + c;
    if (at / 4 != block) block = at / 4, words = philox(uint64_t(state[0]), uint64_t(block), uint64_t(state[1] + s.draw), purpose_net);
    kept[c] = words.w[at % 4] >= s.threshold;
  }
}

// rows of `columns` elements, `stride` apart
INLINE void drop_rows(const T* x, T* y, int64_t rows, int64_t columns, int64_t stride, const bool* kept, real scale) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) y[r * stride + c] = kept[c] ? T(x[r * stride + c] * scale) : T(0);
}

INLINE void drop_run(const T* x, T* y, int64_t n, bool kept, real scale) {
  if (!kept) return void(__builtin_memset(y, 0, size_t(n) * sizeof(T)));
  for (int64_t i = 0; i < n; i++) y[i] = T(x[i] * scale);
}

// 2 N_LANES Gaussian numbers from as many words
INLINE void gaussian_numbers(const uint32_t* words, real* z) {
  real uniform[N_LANES], rest[N_LANES], cosine[N_LANES], sine[N_LANES];
  for (int i = 0; i < N_LANES; i++) uniform[i] = uniform_of(words[2 * i]), rest[i] = rest_of(words[2 * i + 1]);
  const vec radius = radius_of(load(uniform));
  const Circle c = circle(load(rest));
  store(cosine, radius * c.cosine), store(sine, radius * c.sine);
  for (int i = 0; i < N_LANES; i++) {
    const uint32_t quarter = quarter_of(words[2 * i + 1]);
    z[2 * i] = turned_cosine(cosine[i], sine[i], quarter);
    z[2 * i + 1] = turned_sine(cosine[i], sine[i], quarter);
  }
}

}  // namespace

void dropout(const Context& context, const Dropout& s, const T* x, const i64* state, T* y) {
  const real scale = real(s.scale);
  if (s.threshold == 0)
    return for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, load(x + i) * set(scale)); });
  const uint32_t last_dropped = uint32_t(s.threshold - 1);
  for_words(context, s.n, s.offset, state, s.draw, purpose_net, [=](int64_t begin, int64_t count, const uint32_t* words) {
    const T* __restrict from = x + begin;
    T* __restrict to = y + begin;
    for (int64_t j = 0; j < count; j++) {
      const T kept = T(from[j] * scale);
      to[j] = words[j] > last_dropped ? kept : T(0);
    }
  });
}

void group_dropout(const Context& context, const GroupDropout& s, const T* x, const i64* state, T* y) {
  const int64_t group = s.inner * s.columns;
  if (s.outer * group == 0) return;
  const real scale = real(s.scale);
  const int64_t rows = larger(1, elements_per_block / s.columns), pieces = divide_up(s.inner, rows);
  const int64_t groups = larger(1, elements_per_block / group);
  parallel(context, divide_up(s.outer, groups) * pieces, [&](int64_t block, int) {
    const int64_t first = block / pieces * groups, begin = block % pieces * rows, count = smaller(rows, s.inner - begin);
    for (int64_t o = first; o < smaller(first + groups, s.outer); o++) {
      for (int64_t c = 0; c < s.columns; c += group_stretch) {
        const int64_t columns = smaller(group_stretch, s.columns - c), at = o * group + begin * s.columns + c;
        bool kept[group_stretch];
        draw_kept(s, state, s.offset + o * s.columns + c, columns, kept);
        if (s.columns == 1)
          drop_run(x + at, y + at, count, kept[0], scale);
        else
          drop_rows(x + at, y + at, count, columns, s.columns, kept, scale);
      }
    }
  });
}

void gaussian_noise(const Context& context, const Noise& s, const T* x, const i64* state, T* y) {
  const real std = real(s.std);
  for_words(context, s.n, s.offset, state, s.draw, purpose_net, [=](int64_t begin, int64_t count, const uint32_t* words) {
    const int64_t skip = (s.offset + begin) % 4;  // words of the first block that belong to elements before
    for (int64_t j = 0; j < skip + count; j += 2 * N_LANES) {
      real z[2 * N_LANES];
      gaussian_numbers(words - skip + j, z);
      for (int64_t i = larger(skip, j); i < smaller(skip + count, j + 2 * N_LANES); i++) {
        const int64_t at = begin + i - skip;
        y[at] = T(x[at] + std * z[i - j]);
      }
    }
  });
}

void random_bits(const Context& context, const Random& s, const i64* state, i64* bits) {
  for_words(context, s.n, 0, state, s.draw, uint32_t(s.purpose), [=](int64_t begin, int64_t count, const uint32_t* words) {
    for (int64_t j = 0; j < count; j++) bits[begin + j] = words[j];
  });
}

}  // namespace fastnn::FASTNN_TABLE
