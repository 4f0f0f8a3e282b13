// Dropout of single elements and of whole groups, Gaussian noise, and raw random bits. A thread draws whole blocks of Philox, so the
// element of its first word may lie before the array.
#include "elements.cuh"
#include "gaussian.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

__device__ __forceinline__ Words draw_words(const i64* state, int64_t draw, int64_t purpose, int64_t block) {
  return philox(uint64_t(state[0]), uint64_t(block), uint64_t(state[1] + draw), uint32_t(purpose));
}

struct Drop {
  uint64_t threshold;
  float scale;
  __device__ __forceinline__ T operator()(T x, uint32_t word) const { return T(word >= threshold ? float(x) * scale : 0); }
};

// Blocks of the stream begin every four elements, the first one `offset % 4` elements before x. whole: packs begin with a block.
template <bool whole>
__global__ void drop(Dropout s, const T* x, const i64* state, T* y) {
  constexpr int width = whole ? pack_width : 4;
  const int64_t thread = int64_t(blockIdx.x) * map_threads + threadIdx.x, first = thread * width - (whole ? 0 : s.offset % 4);
  if (first >= s.n) return;
  Pack<uint32_t, width> words;
  UNROLL for (int j = 0; j < width; j += 4) {
    const Words drawn = draw_words(state, s.draw, purpose_net, s.offset / 4 + (thread * width + j) / 4);
    UNROLL for (int i = 0; i < 4; i++) words.e[j + i] = drawn.w[i];
  }
  const Drop f = {s.threshold, float(s.scale)};
  if (whole && first + width <= s.n) return store_pack(y + first, map_pack<T, width>(f, load_pack<width>(x + first), words));
  UNROLL for (int j = 0; j < width; j++) {
    const int64_t i = first + j;
    if (i >= 0 && i < s.n) y[i] = f(x[i], words.e[j]);
  }
}

enum GroupArray : int { element = 0, group_word = 1, group_arrays = 2 };

// A thread: a block of the stream and its `width` = 4 neighbours, or one word of a block.
template <int width>
__global__ void drop_groups(Walk<group_arrays> walk, uint32_t count, GroupDropout s, const T* x, const i64* state, T* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<group_arrays> at = walk.at(position);
  const int64_t word = s.offset + at.of[group_word], i = at.of[element];
  const Words drawn = draw_words(state, s.draw, purpose_net, word / 4);
  Pack<uint32_t, width> words;
  UNROLL for (int j = 0; j < width; j++) words.e[j] = drawn.w[width == 1 ? word % 4 : j];
  store_pack(y + i, map_pack<T, width>(Drop{s.threshold, float(s.scale)}, load_pack<width>(x + i), words));
}

template <int width>
void drop_packs(const Context& context, const GroupDropout& s, const T* x, const i64* state, T* y) {
  Space<group_arrays> space;
  space.add(s.outer, {s.inner * s.columns, s.columns});
  space.add(s.inner, {s.columns, 0});
  space.add(s.columns / width, {width, width});
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, drop_groups<width>, unsigned(divide_up(count, map_threads)), map_threads, Walk<group_arrays>(piece), uint32_t(count), s,
           x, state, y);
  });
}

// A thread makes the four numbers of a block of Philox; the first may lie before the array.
__global__ void add_gaussian(Noise s, bool at_once, const T* x, const i64* state, T* y) {
  const int64_t block = int64_t(blockIdx.x) * map_threads + threadIdx.x, first = block * 4 - s.offset % 4;
  if (first >= s.n) return;
  const Words drawn = draw_words(state, s.draw, purpose_net, s.offset / 4 + block);
  float z[4];
  UNROLL for (int j = 0; j < 4; j += 2) {
    const Gaussian pair = gaussian_pair(drawn.w[j], drawn.w[j + 1]);
    z[j] = pair.first, z[j + 1] = pair.second;
  }
  const auto noisy = [&](T from, float noise) { return T(float(from) + float(s.std) * noise); };
  if (first >= 0) {
    Pack<T, 4> pack = load_some<4>(x + first, s.n - first, at_once);
    UNROLL for (int j = 0; j < 4; j++) pack.e[j] = noisy(pack.e[j], z[j]);
    return store_some(y + first, pack, s.n - first, at_once);
  }
  UNROLL for (int j = 0; j < 4; j++) {
    const int64_t i = first + j;
    if (i >= 0 && i < s.n) y[i] = noisy(x[i], z[j]);
  }
}

template <bool whole>
__global__ void draw_bits(Random s, const i64* state, i64* bits) {
  const int64_t block = int64_t(blockIdx.x) * map_threads + threadIdx.x, first = block * 4;
  if (first >= s.n) return;
  const Words drawn = draw_words(state, s.draw, s.purpose, block);
  if (whole && first + 4 <= s.n) {
    UNROLL for (int i = 0; i < 4; i += 2) store_pack(bits + first + i, Pack<i64, 2>{{drawn.w[i], drawn.w[i + 1]}});
  } else {
    UNROLL for (int i = 0; i < 4; i++) {
      if (first + i < s.n) bits[first + i] = drawn.w[i];
    }
  }
}

}  // namespace

void dropout(const Context& context, const Dropout& s, const T* x, const i64* state, T* y) {
  if (s.n == 0) return;
  const auto blocks = [&](int64_t width) { return unsigned(divide_up(s.n + s.offset % 4, map_threads * width)); };
  if (s.offset % 4 == 0 && is_aligned(x, 16) && is_aligned(y, 16))
    launch(context, drop<true>, blocks(pack_width), map_threads, s, x, state, y);
  else
    launch(context, drop<false>, blocks(4), map_threads, s, x, state, y);
}

void group_dropout(const Context& context, const GroupDropout& s, const T* x, const i64* state, T* y) {
  const bool packs = s.offset % 4 == 0 && s.columns % 4 == 0 && lie_in_packs<4>(x, y);
  packs ? drop_packs<4>(context, s, x, state, y) : drop_packs<1>(context, s, x, state, y);
}

void gaussian_noise(const Context& context, const Noise& s, const T* x, const i64* state, T* y) {
  if (s.n == 0) return;
  const bool at_once = s.offset % 4 == 0 && lie_in_packs<4>(x, y);
  launch(context, add_gaussian, unsigned(divide_up(s.n + s.offset % 4, 4 * map_threads)), map_threads, s, at_once, x, state, y);
}

void random_bits(const Context& context, const Random& s, const i64* state, i64* bits) {
  launch(context, is_aligned(bits, 16) ? draw_bits<true> : draw_bits<false>, unsigned(divide_up(s.n, map_threads * 4)), map_threads, s,
         state, bits);
}

}  // namespace fastnn::FASTNN_TABLE
