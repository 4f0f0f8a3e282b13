// Dropout of single elements and of whole groups, Gaussian noise, and raw random bits.
#include "gaussian.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t group_stretch = 256;  // columns whose words wait on the stack
typedef uint32_t word_vector __attribute__((vector_size(N_LANES * sizeof(uint32_t))));

template <class V>
INLINE V from_memory(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// kept[c]: -1 where word first + c is kept, 0 where it is not, for n columns
INLINE void draw_kept(const GroupDropout& s, const i64* state, int64_t first, int64_t n, integer* kept) {
  Words words{};
  int64_t block = -1;
  for (int64_t c = 0; c < n; c++) {
    const int64_t at = first + c;
    if (at / 4 != block) block = at / 4, words = philox(uint64_t(state[0]), uint64_t(block), uint64_t(state[1] + s.draw), purpose_net);
    kept[c] = -integer(words.w[at % 4] >= s.threshold);
  }
}

// y = scale x where an element is kept, else 0. keeps(i): -1 and 0 for the vector of elements from i on, the last ones perhaps beyond n
template <class Keeps>
INLINE void drop(const T* x, T* y, int64_t n, real scale, const Keeps& keeps) {
  for_vectors(0, n, [&](int64_t i, auto load, auto store) { store(y + i, select(keeps(i), load(x + i) * set(scale), zero())); });
}

INLINE void drop_run(const T* x, T* y, int64_t n, bool kept, real scale) {
  if (!kept) return void(__builtin_memset(y, 0, size_t(n) * sizeof(T)));
  for_vectors(0, n, [&](int64_t i, auto load, auto store) { store(y + i, load(x + i) * set(scale)); });
}

}  // namespace

void dropout(const Context& context, const Dropout& s, const T* x, const i64* state, T* y) {
  const real scale = real(s.scale);
  if (s.threshold == 0)
    return for_elements(context, s.n, [=](int64_t i, auto load, auto store) { store(y + i, load(x + i) * set(scale)); });
  const uint32_t last_dropped = uint32_t(s.threshold - 1);
  for_words(context, s.n, s.offset, state, s.draw, purpose_net, [=](int64_t begin, int64_t count, const uint32_t* words) {
    drop(x + begin, y + begin, count, scale,
         [=](int64_t i) { return __builtin_convertvector(from_memory<word_vector>(words + i) > last_dropped, ivec); });
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
        integer kept[group_stretch + N_LANES];
        draw_kept(s, state, s.offset + o * s.columns + c, columns, kept);
        if (s.columns == 1)
          drop_run(x + at, y + at, count, kept[0], scale);
        else
          for (int64_t r = 0; r < count; r++)
            drop(x + at + r * s.columns, y + at + r * s.columns, columns, scale, [&](int64_t i) { return from_memory<ivec>(kept + i); });
      }
    }
  });
}

void gaussian_noise(const Context& context, const Noise& s, const T* x, const i64* state, T* y) {
  const real std = real(s.std);
  for_words(context, s.n, s.offset, state, s.draw, purpose_net, [=](int64_t begin, int64_t count, const uint32_t* words) {
    const int64_t skip = (s.offset + begin) % 4;  // words of the first block that belong to elements before
    for (int64_t j = 0; j < skip + count; j += 2 * N_LANES) {
      real z[3 * N_LANES] = {};  // the last vector that is read may begin anywhere
      gaussian_numbers(words - skip + j, z);
      for_vectors(larger(skip, j), smaller(skip + count, j + 2 * N_LANES), [&](int64_t i, auto load, auto store) {
        const int64_t at = begin + i - skip;
        store(y + at, load(x + at) + set(std) * from_memory<vec>(z + i - j));
      });
    }
  });
}

void random_bits(const Context& context, const Random& s, const i64* state, i64* bits) {
  for_words(context, s.n, 0, state, s.draw, uint32_t(s.purpose), [=](int64_t begin, int64_t count, const uint32_t* words) {
    for (int64_t j = 0; j < count; j++) bits[begin + j] = words[j];
  });
}

}  // namespace fastnn::FASTNN_TABLE
