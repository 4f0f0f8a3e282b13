// Maps whose rows depend on p alone and whose columns on q alone: a row of the image is interpolated once, and serves all lines of the
// output that lie beside it.
#pragma once
#include "paint.h"

namespace fastnn::FASTNN_TABLE {
namespace {

INLINE bool is_stretch(const i64* map) { return map[1] == 0 && map[3] == 0; }

// Which values of a row the pixels of a run lie between: where those of the first and the second pixel begin, and how far behind the first
struct Columns {
  int64_t count, first[most_values], second[most_values];
  R right[most_values];
  bool inside = true;

  INLINE Columns(const Augment& s, const i64* map, int64_t q, int64_t count) : count(count) {
    for (int64_t i = 0; i < count; i++) {
      const Between w = between(mapped(map + 3, 0, q + i), s.W, s.border);
      first[i] = w.first * s.C, second[i] = w.second * s.C, right[i] = part_of<R>(w);
      inside = inside && w.first >= 0 && w.second >= 0;
    }
  }
};

typedef R four_values __attribute__((vector_size(4 * sizeof(R))));
typedef u8 four_bytes __attribute__((vector_size(4)));

INLINE four_values four_at(const u8* from) {
  four_bytes bytes;
  __builtin_memcpy(&bytes, from, 4);
  return __builtin_convertvector(bytes, four_values);
}

// Three channels go by fours: the fourth is the place of the next pixel, or the value behind the last; so behind `row` a byte must follow.
INLINE void stretch_by_fours(const u8* row, const Columns& columns, R* values) {
  for (int64_t i = 0; i < columns.count; i++) {
    const four_values a = four_at(row + columns.first[i]), b = four_at(row + columns.second[i]);
    const four_values mean = a + columns.right[i] * (b - a);
    __builtin_memcpy(values + 3 * i, &mean, sizeof(mean));
  }
}
INLINE void stretch_row(const u8* row, const Columns& columns, int64_t C, R* values) {
  for (int64_t i = 0; i < columns.count; i++)
    for (int64_t c = 0; c < C; c++) {
      const R a = R(row[columns.first[i] + c]), b = R(row[columns.second[i] + c]);
      values[i * C + c] = a + columns.right[i] * (b - a);
    }
}

// The last two rows, as the pixels of a run show them
struct Rows {
  R values[2][most_values + 1];
  int64_t held[2] = {-1, -1};

  // `kept`: the row that must stay
  INLINE const R* get(const Augment& s, const u8* image, const Columns& columns, int64_t h, int64_t kept) {
    const int slot = held[0] == h ? 0 : held[1] == h || held[0] == kept ? 1 : 0;
    if (held[slot] != h) {
      const u8* row = image + h * s.W * s.C;
      s.C == 3 && h < s.H - 1 ? stretch_by_fours(row, columns, values[slot]) : stretch_row(row, columns, s.C, values[slot]);
      held[slot] = h;
    }
    return values[slot];
  }
};

INLINE void blend(const R* __restrict upper, const R* __restrict lower, R down, int64_t n, R* __restrict values) {
  for (int64_t i = 0; i < n; i++) values[i] = upper[i] + down * (lower[i] - upper[i]);
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
