// Work over lists of parameters: the elements of the whole list are cut into blocks, across parameters.
#pragma once
#include "elements.h"
#include "sum_lanes.h"

namespace fastnn::FASTNN_TABLE {
namespace {

// body(parameter, begin, end) for what elements [begin, end) of the whole list have in each parameter, in the order of the list
template <class F>
INLINE void for_range(const int64_t* size, int64_t count, int64_t begin, int64_t end, const F& body) {
  for (int64_t i = 0; i < count && end > 0; i++) {
    if (begin < size[i]) body(i, larger(begin, 0), smaller(end, size[i]));
    begin -= size[i], end -= size[i];
  }
}

INLINE int64_t total_size(const int64_t* size, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += size[i];
  return total;
}

// body(parameter, begin, end) for all elements of all parameters. Each worker begins with its share of each parameter, not of the list: of
// a matrix, with the rows that it will meet, and has met, in products.
template <class F>
INLINE void for_parameters(const Context& context, const int64_t* size, int64_t count, const F& body) {
  constexpr int64_t most_shares = 256;
  const int64_t shares = smaller(context.workers, most_shares);
  const auto edge = [=](int64_t p, int64_t share) { return share == shares ? size[p] : size[p] * share / shares / 16 * 16; };
  int64_t whole[most_shares] = {};
  for (int64_t share = 0; share < shares; share++)
    for (int64_t p = 0; p < count; p++) whole[share] += edge(p, share + 1) - edge(p, share);
  for_blocks(context, total_size(size, count), [&](int64_t begin, int64_t end) {
    for (int64_t share = 0; share < shares && end > 0; begin -= whole[share], end -= whole[share], share++) {
      int64_t from = begin, to = begin < whole[share] ? end : 0;
      for (int64_t p = 0; p < count && to > 0; p++) {
        const int64_t first = edge(p, share), length = edge(p, share + 1) - first;
        if (from < length) body(p, first + larger(from, 0), first + smaller(to, length));
        from -= length, to -= length;
      }
    }
  });
}

// body(parameter, begin, end, number) for each piece of each parameter: update_piece elements or the rest, numbered through the list
template <class F>
INLINE void for_pieces(const Context& context, const int64_t* size, int64_t count, const F& body) {
  constexpr int64_t per_block = elements_per_block / update_piece;
  int64_t pieces = 0;
  for (int64_t i = 0; i < count; i++) pieces += divide_up(size[i], update_piece);
  parallel(context, divide_up(pieces, per_block), [&](int64_t block, int) {
    const int64_t last = smaller(pieces, (block + 1) * per_block);
    int64_t number = block * per_block, first = 0;  // of this parameter's pieces
    for (int64_t i = 0; i < count && number < last; i++) {
      const int64_t behind = first + divide_up(size[i], update_piece);
      for (; number < smaller(behind, last); number++) {
        const int64_t begin = (number - first) * update_piece;
        body(i, begin, smaller(begin + update_piece, size[i]), number);
      }
      first = behind;
    }
  });
}

// How far the elements of a piece moved, beside how large they were
struct Moved {
  vec change{}, size{};
  INLINE void add(vec before, vec after) {
    const vec difference = after - before;
    change = fma(difference, difference, change), size = fma(before, before, size);
  }
  INLINE void store(f64* moved, int64_t number, int64_t pieces) const {
    if (number < pieces) moved[2 * number] = double(sum_lanes(change)), moved[2 * number + 1] = double(sum_lanes(size));
  }
};

// One step of every parameter. with_rule(parameter, run) calls run(rule) once; rule(i, w, load, store) returns the new vector of weights i.
template <class WithRule>
INLINE void update(const Context& context, const Update& s, const List<R>& w, f64* moved, const WithRule& with_rule) {
  if (!moved)
    return for_parameters(context, w.size, w.count, [&](int64_t p, int64_t begin, int64_t end) {
      R* const weights = w.data[p];
      with_rule(p, [&](const auto& rule) {
        for_vectors(begin, end, [=](int64_t i, auto load, auto store) { store(weights + i, rule(i, load(weights + i), load, store)); });
      });
    });
  for_pieces(context, w.size, w.count, [&](int64_t p, int64_t begin, int64_t end, int64_t number) {
    R* const weights = w.data[p];
    with_rule(p, [&](const auto& rule) {
      Moved sums;
      for_vectors(begin, end, [&](int64_t i, auto load, auto store) {
        const vec before = load(weights + i);
        store(weights + i, rule(i, before, load, store));
        sums.add(before, load(weights + i));  // read again: lanes beyond the end are 0
      });
      sums.store(moved, number, s.pieces);
    });
  });
}

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
