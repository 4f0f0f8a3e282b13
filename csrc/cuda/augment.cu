// A batch gathered from a set of byte images, each cropped, mirrored, warped and continued beyond its border by its map, coloured,
// normalised and erased where its box lies; bent and noisy too, where it is told so. Crops and mirror images alone go by packs of elements,
// everything else by pixels.
#include "../border.h"
#include "elements.cuh"
#include "gaussian.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

// --- by elements

enum Array : int { image = 0, place = 1, arrays = 2 };  // which image of the batch, and the first element of a pack in it

struct Sizes {
  Divisor C, Q;
};

// Where an output pixel's channels lie in the source image; -1 where it is the fill.
__device__ __forceinline__ int64_t pixel_offset(const Augment& s, const Sizes& sizes, uint32_t pixel, const i64* map) {
  const uint32_t p = sizes.Q.divide(pixel), q = pixel - p * sizes.Q.value;
  const int64_t h = shown(map[0] + p, s.H, s.border), w = shown(map[1] + (map[2] < 0 ? -int64_t(q) : int64_t(q)), s.W, s.border);
  return h < 0 || w < 0 ? -1 : (h * s.W + w) * s.C;
}

template <int width>
__global__ void augment(Walk<arrays> walk, uint32_t count, Augment s, Sizes sizes, const u8* source, const i64* index, const i64* maps,
                        const T* fill, const R* scale, const R* shift, T* y) {
  const uint32_t position = blockIdx.x * map_threads + threadIdx.x;
  if (position >= count) return;
  const Offsets<arrays> at = walk.at(position);
  const i64* map = maps + 3 * at.of[image];
  const u8* from = source + index[at.of[image]] * s.H * s.W * s.C;
  uint32_t pixel = sizes.C.divide(uint32_t(at.of[place])), c = uint32_t(at.of[place]) - pixel * sizes.C.value;
  int64_t offset = pixel_offset(s, sizes, pixel, map);
  Pack<T, width> to;
  UNROLL for (int j = 0; j < width; j++) {
    if (c == s.C) c = 0, offset = pixel_offset(s, sizes, ++pixel, map);
    to.e[j] = offset < 0 ? fill[c] : T(scale[c] * float(from[offset + c]) + shift[c]);
    c++;
  }
  store_pack(y + at.of[image] * s.P * s.Q * s.C + at.of[place], to);
}

template <int width>
void augment_packs(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                   const R* scale, const R* shift, T* y) {
  const Sizes sizes = {Divisor(s.C), Divisor(s.Q)};
  Space<arrays> space;
  space.add(s.batch, {1, 0});
  space.add(s.P * s.Q * s.C / width, {0, width});
  for_pieces(space, [&](const auto& piece) {
    const int64_t count = piece.count();
    launch(context, augment<width>, unsigned(divide_up(count, map_threads)), map_threads, Walk<arrays>(piece), uint32_t(count), s, sizes,
           source, index, map, fill, scale, shift, y);
  });
}

// --- by pixels

constexpr int pixel_threads = 256, pixels_per_thread = 16;

struct Batch {
  const u8* source;
  const i64 *index, *map;
  const T* fill;
  const R *scale, *shift, *colour;
  const i64* box;
  const T* erased;
  const f64* bent;
  const R* deviation;
  const i64* stream;
  T* y;
};

// What an output pixel shows: a place between four pixels, or on one
struct Spot {
  Between h, w;

  template <class At>
  __device__ __forceinline__ R mean(const At& at) const {  // at(h, w); outside counts as 0
    const auto found = [&](int64_t i, int64_t j) { return i < 0 || j < 0 ? R(0) : at(i, j); };
    return mean_of_four(found(h.first, w.first), found(h.first, w.second), found(h.second, w.first), found(h.second, w.second),
                        part_of<R>(h), part_of<R>(w));
  }
};

__device__ __forceinline__ Spot spot_of(const Augment& s, const i64* map, int64_t p, int64_t q) {
  if (s.warped) return {between(mapped(map, p, q), s.H, s.border), between(mapped(map + 3, p, q), s.W, s.border)};
  const int64_t h = shown(map[0] + p, s.H, s.border), w = shown(map[1] + (map[2] < 0 ? -q : q), s.W, s.border);
  return {{h, h, 0}, {w, w, 0}};
}

__device__ __forceinline__ Spot bent_spot(const Augment& s, const f64* bent, int64_t p, int64_t q) {
  const Place at = Bend(bent, s.H, s.W).place(p, q);
  return {between(at.h, s.H, s.border), between(at.w, s.W, s.border)};
}

struct ColourSums {
  uint64_t sum[pixel_threads][3];
};

// A v + o: the matrix of a sample, and what is added with the mean of its image in it
template <int C>
struct Colour {
  R matrix[C][C], offset[C];
};

template <int C>
__device__ __forceinline__ Colour<C> colour_of(const Augment& s, const u8* image, const R* colour) {
  Colour<C> made;
  bool used = false;
  for (int c = 0; c < C; c++) {
    for (int k = 0; k < C; k++) made.matrix[c][k] = colour[c * (2 * C + 1) + k], used = used || colour[c * (2 * C + 1) + C + k] != 0;
    made.offset[c] = colour[c * (2 * C + 1) + 2 * C];
  }
  if (!used) return made;  // the whole block alike
  auto& sums = shared<ColourSums>().sum;
  uint64_t own[C] = {};
  for (int64_t i = threadIdx.x; i < s.H * s.W; i += pixel_threads)
    for (int c = 0; c < C; c++) own[c] += image[i * C + c];
  for (int c = 0; c < C; c++) sums[threadIdx.x][c] = own[c];
  __syncthreads();
  for (int half = pixel_threads / 2; half > 0; half /= 2) {
    if (int(threadIdx.x) < half)
      for (int c = 0; c < C; c++) sums[threadIdx.x][c] += sums[threadIdx.x + half][c];
    __syncthreads();
  }
  for (int k = 0; k < C; k++) {
    const R mean = R(double(sums[0][k]) / double(s.H * s.W));
    for (int c = 0; c < C; c++) made.offset[c] += colour[c * (2 * C + 1) + C + k] * mean;
  }
  return made;
}

__device__ __forceinline__ R written(const Batch& b, int64_t c, R value, R share) {
  if (share == 0) return R(b.fill[c]);
  const R inside = b.scale[c] * value + share * b.shift[c];
  return share == 1 ? inside : inside + (1 - share) * R(b.fill[c]);
}

// Of a pixel: what channel c has become, asked for in order; e: its number in the sample, as it lies in memory
struct SampleNoise {
  R deviation;
  const i64* stream;  // seed, draw, first block
  int64_t e;
  Words words;

  __device__ __forceinline__ R added(const Batch& b, int64_t c, R y) {
    if (deviation == 0) return y;
    if (c == 0 || e % 4 == 0) words = philox(uint64_t(stream[0]), uint64_t(stream[2] + e / 4), uint64_t(stream[1]), purpose_noise);
    const Gaussian pair = e & 2 ? gaussian_pair(words.w[2], words.w[3]) : gaussian_pair(words.w[0], words.w[1]);
    const R z = e++ & 1 ? pair.second : pair.first, black = b.shift[c], white = b.scale[c] * 255 + black;
    const R low = black < white ? black : white, high = black < white ? white : black, sum = y + deviation * b.scale[c] * z;
    return sum < low ? low : sum > high ? high : sum;
  }
};
struct NoNoise {
  __device__ __forceinline__ R added(const Batch&, int64_t, R y) { return y; }
};

// A pixel; channels 0: as many as there are, and no colours
template <int channels, class Added>
__device__ __forceinline__ void write_pixel(const Augment& s, const Batch& b, const u8* image, const Spot& spot,
                                            const Colour<channels ? channels : 1>& colour, Added noise, T* to) {
  const R share = spot.mean([](int64_t, int64_t) { return R(1); });
  const auto value = [&](int64_t c) { return spot.mean([&](int64_t h, int64_t w) { return R(image[(h * s.W + w) * s.C + c]); }); };
  if constexpr (channels == 0) {
    for (int64_t c = 0; c < s.C; c++) to[c] = T(noise.added(b, c, written(b, c, value(c), share)));
  } else {
    R x[channels];
    for (int c = 0; c < channels; c++) x[c] = value(c);
    for (int c = 0; c < channels; c++) {
      R sum = share * colour.offset[c];
      for (int k = 0; k < channels; k++) sum += colour.matrix[c][k] * x[k];
      to[c] = T(noise.added(b, c, written(b, c, fminf(fmaxf(sum, 0), 255 * share), share)));
    }
  }
}

__device__ __forceinline__ bool holds(const i64* box, int64_t p, int64_t q) {
  return p >= box[0] && p < box[0] + box[2] && q >= box[1] && q < box[1] + box[3];
}

// `blocks` blocks share an image. more: some samples may be bent or noisy.
template <int channels, bool more>
__global__ void augment_pixels(Augment s, Divisor Q, uint32_t blocks, Batch b) {
  constexpr int C = channels ? channels : 1;
  const int64_t i = blockIdx.x / blocks, numbers = s.warped ? 6 : 3;
  const u8* image = b.source + b.index[i] * s.H * s.W * s.C;
  Colour<C> colour = {};
  if constexpr (channels != 0) colour = colour_of<C>(s, image, b.colour + i * C * (2 * C + 1));
  for (int64_t pixel = blockIdx.x % blocks * pixel_threads + threadIdx.x; pixel < s.P * s.Q; pixel += int64_t(blocks) * pixel_threads) {
    const int64_t p = Q.divide(uint32_t(pixel)), q = pixel - p * s.Q;
    T* to = b.y + (i * s.P * s.Q + pixel) * s.C;
    if (b.box && holds(b.box + 4 * i, p, q)) {
      for (int64_t c = 0; c < s.C; c++) to[c] = b.erased[c];
    } else {
      if constexpr (more) {
        const bool bends = b.bent && is_bent(b.bent + bent_numbers * i);
        const Spot spot = bends ? bent_spot(s, b.bent + bent_numbers * i, p, q) : spot_of(s, b.map + numbers * i, p, q);
        const SampleNoise noise = {b.deviation ? b.deviation[i] : 0, b.stream + 3 * i, pixel * s.C, {}};
        write_pixel<channels>(s, b, image, spot, colour, noise, to);
      } else {
        write_pixel<channels>(s, b, image, spot_of(s, b.map + numbers * i, p, q), colour, NoNoise{}, to);
      }
    }
  }
}

template <int channels>
void augment_by_pixels(const Context& context, const Augment& s, const Batch& batch) {
  const int64_t blocks = divide_up(s.P * s.Q, pixel_threads * pixels_per_thread);
  const auto kernel = batch.bent || batch.deviation ? augment_pixels<channels, true> : augment_pixels<channels, false>;
  launch<ColourSums>(context, kernel, unsigned(blocks * s.batch), pixel_threads, s, Divisor(s.Q), uint32_t(blocks), batch);
}

}  // namespace

void gather_augment(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                    const R* scale, const R* shift, const R* colour, const i64* box, const T* erased, const f64* bent, const R* deviation,
                    const i64* stream, T* y) {
  if (!s.warped && !colour && !(box && erased) && !bent && !(deviation && stream)) {
    constexpr int width = 4;
    const auto run = s.P * s.Q * s.C % width == 0 && is_aligned(y, width * sizeof(T)) ? augment_packs<width> : augment_packs<1>;
    return run(context, s, source, index, map, fill, scale, shift, y);
  }
  const Batch batch = {source, index, map, fill, scale, shift, colour, erased ? box : nullptr, erased, bent, stream ? deviation : nullptr,
                       stream, y};
  const auto run = !colour ? augment_by_pixels<0> : s.C == 3 ? augment_by_pixels<3> : augment_by_pixels<1>;
  run(context, s, batch);
}

}  // namespace fastnn::FASTNN_TABLE
