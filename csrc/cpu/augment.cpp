// A batch gathered from a set of byte images, each cropped, mirrored, warped and continued beyond its border by its map, coloured,
// normalised and erased where its box lies; bent and noisy too, where it is told so.
#include "bent.h"
#include "grain.h"
#include "stretch.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// --- whole pixels

INLINE void copy_pixel(const Augment& s, const u8* from, u8* to) {
  for (int64_t c = 0; c < s.C; c++) to[c] = from[c];
}
// What is there already is copied behind itself, twice as much each time
INLINE void fill_pixels(const Augment& s, const T* fill, int64_t count, T* to) {
  if (count <= 0) return;
  for (int64_t c = 0; c < s.C; c++) to[c] = fill[c];
  for (int64_t done = 1, more; done < count; done += more) {
    more = smaller(done, count - done);
    __builtin_memcpy(to + done * s.C, to, size_t(more * s.C) * sizeof(T));
  }
}

INLINE int64_t limited(int64_t least, int64_t i, int64_t most) { return smaller(larger(i, least), most); }

struct Span {
  int64_t begin, end;
};

struct Line {  // of the output: pixel q shows pixel left + step q of the row
  const u8* row;
  int64_t left, step;
  INLINE int64_t place(int64_t q) const { return left + step * q; }
  // Which of the pixels begin ... end - 1 show one of the row's W
  INLINE Span inside(int64_t W, int64_t begin, int64_t end) const {
    const int64_t first = limited(begin, step > 0 ? -left : left - W + 1, end);
    return {first, limited(first, step > 0 ? W - left : left + 1, end)};
  }
};

typedef u8 sixteen_bytes __attribute__((vector_size(16)));

// `count` pixels from `from` on backwards. Five of three bytes go at once: the sixteenth byte is the next pixel's place.
INLINE void copy_mirrored(const Augment& s, const u8* from, int64_t count, u8* to) {
  int64_t i = 0;
  if (s.C == 3 && count > 0) {
    copy_pixel(s, from, to);  // behind it, there may be nothing
    sixteen_bytes five;
    for (i = 1; i + 5 < count; i += 5) {
      __builtin_memcpy(&five, from - 3 * (i + 4), 16);
      five = __builtin_shufflevector(five, five, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2, 15);
      __builtin_memcpy(to + 3 * i, &five, 16);
    }
  }
  for (; i < count; i++) copy_pixel(s, from - i * s.C, to + i * s.C);
}

// `count` pixels from q on, in a buffer or where they lie
INLINE const u8* pixels_of(const Augment& s, const Line& line, int64_t q, int64_t count, u8* buffer) {
  const Span inside = line.inside(s.W, q, q + count);
  const int64_t before = inside.begin - q, seen = inside.end - inside.begin;
  const u8* first = seen > 0 ? line.row + line.place(inside.begin) * s.C : line.row;
  if (seen == count && line.step == 1) return first;
  if (seen > 0 && line.step == 1)
    for (int64_t i = 0; i < seen * s.C; i++) buffer[before * s.C + i] = first[i];
  else if (seen > 0)
    copy_mirrored(s, first, seen, buffer + before * s.C);
  for (int64_t i = 0; i < count; i++) {
    if (i == before) i += seen;
    if (i < count) copy_pixel(s, line.row + shown(line.place(q + i), s.W, s.border) * s.C, buffer + i * s.C);
  }
  return buffer;
}

// Which pixels of a line show the image; what is beside them is filled.
INLINE Span painted_of(const Augment& s, const Line& line) {
  return s.border == Border::constant ? line.inside(s.W, 0, s.Q) : Span{0, s.Q};
}
INLINE void fill_beside(const Augment& s, const Span& painted, const T* fill, T* to) {
  fill_pixels(s, fill, painted.begin, to);
  fill_pixels(s, fill, s.Q - painted.end, to + painted.end * s.C);
}

struct Lines {  // of a sample
  const u8* image;
  const i64* map;
  INLINE int64_t row(const Augment& s, int64_t p) const { return shown(map[0] + p, s.H, s.border); }
  INLINE Line line(const Augment& s, int64_t row) const { return {image + row * s.W * s.C, map[1], map[2] < 0 ? -1 : 1}; }
};

template <class Painter>
void write_line(const Augment& s, const Lines& lines, int64_t p, const T* fill, const Painter& paint, T* to) {
  u8 buffer[most_values + 1];
  const int64_t row = lines.row(s, p);
  if (row < 0) return fill_pixels(s, fill, s.Q, to);
  const Line line = lines.line(s, row);
  const Span painted = painted_of(s, line);
  fill_beside(s, painted, fill, to);
  const int64_t pixels = paint.normal.pixels;
  for (int64_t q = painted.begin; q < painted.end; q += pixels) {
    const int64_t count = smaller(pixels, painted.end - q);
    const bool wide = s.C > most_values;  // then a run is one pixel
    const u8* from = wide ? line.row + shown(line.place(q), s.W, s.border) * s.C : pixels_of(s, line, q, count, buffer);
    paint.run(from, to + q * s.C, count * s.C);
  }
}

constexpr int64_t most_lines = 32;

// As one run, what is beside the image too, which is filled behind it
template <class Painter>
void write_short_lines(const Augment& s, const Lines& lines, int64_t p, int64_t count, const T* fill, const Painter& paint, T* to) {
  u8 pixels[most_values + 1];
  Span painted[most_lines];
  const int64_t values = s.Q * s.C;
  for (int64_t i = 0; i < count; i++) {
    const int64_t row = lines.row(s, p + i);
    const Line line = lines.line(s, larger(row, 0));
    painted[i] = row < 0 ? Span{0, 0} : painted_of(s, line);
    const int64_t seen = painted[i].end - painted[i].begin;
    u8* const its = pixels + i * values;
    u8* const first = its + painted[i].begin * s.C;
    if (seen < s.Q) __builtin_memset(its, 0, size_t(values));
    const u8* const from = seen > 0 ? pixels_of(s, line, painted[i].begin, seen, first) : first;
    if (from != first) __builtin_memcpy(first, from, size_t(seen * s.C));
  }
  paint.run(pixels, to, count * values);
  for (int64_t i = 0; i < count; i++) fill_beside(s, painted[i], fill, to + i * values);
}

template <class Painter>
void write_image(const Augment& s, const Lines& lines, const T* fill, const Painter& paint, T* to) {
  const int64_t values = s.Q * s.C, at_once = limited(1, most_values / values, most_lines);
  for (int64_t p = 0; p < s.P; p += at_once) {
    if (at_once > 1)
      write_short_lines(s, lines, p, smaller(at_once, s.P - p), fill, paint, to + p * values);
    else
      write_line(s, lines, p, fill, paint, to + p * values);
  }
}

// --- places between pixels

struct Walk {  // along a line of the output, in 2^-32 of a pixel of the image
  int64_t h, w, down, right;
  INLINE Walk at(int64_t i) const {
    return {int64_t(uint64_t(h) + uint64_t(down) * uint64_t(i)), int64_t(uint64_t(w) + uint64_t(right) * uint64_t(i)), down, right};
  }
  INLINE bool is_inside(const Augment& s) const { return FASTNN_TABLE::is_inside(s, h, w); }
  // Whether `count` places, at most most_values, lie so. The ends tell, unless a step is so wide that the walk may wrap round.
  INLINE bool stays_inside(const Augment& s, int64_t count) const {
    constexpr int64_t widest = int64_t{1} << 54;
    return down > -widest && down < widest && right > -widest && right < widest && is_inside(s) && at(count - 1).is_inside(s);
  }
  INLINE Spot spot(const Augment& s) const { return {between(h, s.H, s.border), between(w, s.W, s.border)}; }
};

// The values of `count` places, all of them inside
template <int channels>
INLINE void sample_inside(const Augment& s, const u8* image, Walk walk, int64_t count, R* values) {
  const int64_t C = channels ? channels : s.C;
  for (int64_t i = 0; i < count; i++, values += C, walk = walk.at(1)) mean_inside<channels>(s, image, walk.h, walk.w, values);
}

template <class Painter>
void write_warped_run(const Augment& s, const u8* image, const Walk& walk, int64_t count, const T* fill, const Painter& paint, T* to) {
  R values[most_values];
  if (walk.stays_inside(s, count)) {
    s.C == 3   ? sample_inside<3>(s, image, walk, count, values)
    : s.C == 1 ? sample_inside<1>(s, image, walk, count, values)
               : sample_inside<0>(s, image, walk, count, values);
    return paint.run(values, to, count * s.C);
  }
  for (int64_t i = 0; i < count; i++) {
    const Spot spot = walk.at(i).spot(s);
    for (int64_t c = 0; c < s.C; c++) values[i * s.C + c] = value_at(s, image, spot, c);
  }
  paint.run(values, to, count * s.C);
  if (s.border != Border::constant) return;
  for (int64_t i = 0; i < count; i++) {
    const Spot spot = walk.at(i).spot(s);
    if (spot.mixed()) paint.pixel(s, image, spot, fill, to + i * s.C);
  }
}

template <class Painter>
void write_stretched(const Augment& s, const u8* image, const i64* map, const T* fill, const Painter& paint, T* to) {
  for (int64_t q = 0; q < s.Q; q += paint.normal.pixels) {
    const Columns columns(s, map, q, smaller(paint.normal.pixels, s.Q - q));
    Rows rows;
    for (int64_t p = 0; p < s.P; p++) {
      T* run = to + (p * s.Q + q) * s.C;
      const Walk walk = {mapped(map, p, q), mapped(map + 3, p, q), 0, map[4]};
      const Between h = between(walk.h, s.H, s.border);
      if (columns.inside && h.first >= 0 && h.second >= 0) {
        R values[most_values];
        const R* upper = rows.get(s, image, columns, h.first, h.second);
        blend(upper, rows.get(s, image, columns, h.second, h.first), part_of<R>(h), columns.count * s.C, values);
        paint.run(values, run, columns.count * s.C);
      } else {
        write_warped_run(s, image, walk, columns.count, fill, paint, run);
      }
    }
  }
}

template <class Painter>
void write_warped(const Augment& s, const u8* image, const i64* map, const T* fill, const Painter& paint, T* to) {
  if (is_stretch(map) && s.C <= most_values) return write_stretched(s, image, map, fill, paint, to);
  const int64_t pixels = larger(1, warped_values / s.C);
  for (int64_t p = 0; p < s.P; p++)
    for (int64_t q = 0; q < s.Q; q += pixels) {
      const Walk walk = {mapped(map, p, q), mapped(map + 3, p, q), map[1], map[4]};
      T* run = to + (p * s.Q + q) * s.C;
      if (s.C > most_values)
        paint.pixel(s, image, walk.spot(s), fill, run);
      else
        write_warped_run(s, image, walk, smaller(pixels, s.Q - q), fill, paint, run);
    }
}

// --- a sample

template <bool b>
struct Constant {
  static constexpr bool value = b;
};

struct Places {  // of a sample: its map, and what bends it, if anything does
  const i64* map;
  const f64* bent;
};

INLINE Spot spot_of(const Augment& s, const Places& places, int64_t p, int64_t q) {
  const i64* map = places.map;
  if (places.bent) return spot_of(s, Bend(places.bent, s.H, s.W).place(p, q));
  if (s.warped) return spot_of(s, Place{mapped(map, p, q), mapped(map + 3, p, q)});
  const int64_t h = shown(map[0] + p, s.H, s.border), w = shown(map[1] + (map[2] < 0 ? -q : q), s.W, s.border);
  return {{h, h, 0}, {w, w, 0}};
}

template <class Painter>
void write_sample(const Augment& s, const u8* image, const Places& places, const T* fill, const Painter& paint, const SampleNoise& noise,
                  T* to) {
  constexpr bool rounds = sizeof(T) != sizeof(R);
  if constexpr (rounds)
    if (noise.deviation != 0)
      return write_noisy(s, image, fill, paint, noise, [&](int64_t p, int64_t q) { return spot_of(s, places, p, q); }, to);
  if (places.bent)
    write_bent(s, image, Bend(places.bent, s.H, s.W), fill, paint, to);
  else
    s.warped ? write_warped(s, image, places.map, fill, paint, to) : write_image(s, {image, places.map}, fill, paint, to);
  if (!rounds && noise.deviation != 0) add_noise(s, noise, to);
}

template <int C>
void write_coloured(const Augment& s, const u8* image, const Places& places, const T* fill, const Normal& normal, const R* colour,
                    const SampleNoise& noise, T* to) {
  R mean[C] = {};
  bool used = false;
  for (int64_t c = 0; c < C; c++)
    for (int64_t k = 0; k < C; k++) used = used || colour[c * (2 * C + 1) + C + k] != 0;
  if (used) image_mean<C>(image, s.H * s.W, mean);
  write_sample(s, image, places, fill, Coloured<C>(normal, colour, mean), noise, to);
}

void erase(const Augment& s, const i64* box, const T* erased, T* y) {
  const int64_t top = larger(box[0], 0), bottom = smaller(box[0] + box[2], s.P), left = larger(box[1], 0),
                right = smaller(box[1] + box[3], s.Q);
  if (left >= right) return;
  for (int64_t p = top; p < bottom; p++) fill_pixels(s, erased, right - left, y + (p * s.Q + left) * s.C);
}

}  // namespace

void gather_augment(const Context& context, const Augment& s, const u8* source, const i64* index, const i64* map, const T* fill,
                    const R* scale, const R* shift, const R* colour, const i64* box, const T* erased, const f64* bent, const R* deviation,
                    const i64* stream, T* y) {
  R scales[most_values], shifts[most_values];
  Normal normal = {1, scale, shift};
  if (s.C <= most_values) {
    normal = {most_values / s.C, scales, shifts};
    for (int64_t i = 0; i < most_values; i++) scales[i] = scale[i % s.C], shifts[i] = shift[i % s.C];
  }
  const int64_t size = s.P * s.Q * s.C, images = larger(1, 32768 / size), numbers = s.warped ? 6 : 3;
  const auto run = [&](auto more) {  // more: some samples may be bent or noisy
    parallel(context, divide_up(s.batch, images), [&](int64_t block, int) {
      for (int64_t i = block * images; i < smaller((block + 1) * images, s.batch); i++) {
        const u8* image = source + index[i] * s.H * s.W * s.C;
        const R* its_colour = colour + i * s.C * (2 * s.C + 1);
        T* to = y + i * size;
        Places places = {map + numbers * i, nullptr};
        SampleNoise noise = {0, nullptr, scale, shift};
        if (more.value && bent && is_bent(bent + bent_numbers * i)) places.bent = bent + bent_numbers * i;
        if (more.value && deviation && stream) noise.deviation = deviation[i], noise.stream = stream + 3 * i;
        if (!colour)
          write_sample(s, image, places, fill, Plain{normal}, noise, to);
        else if (s.C == 3)
          write_coloured<3>(s, image, places, fill, normal, its_colour, noise, to);
        else
          write_coloured<1>(s, image, places, fill, normal, its_colour, noise, to);
        if (box && erased) erase(s, box + 4 * i, erased, to);
      }
    });
  };
  bent || (deviation && stream) ? run(Constant<true>{}) : run(Constant<false>{});
}

}  // namespace fastnn::FASTNN_TABLE
