// Pixels of the tiles that come next, asked for a little at each frequency. What a block of tiles reads and writes is no stretch of a map:
// blocks end within a row of tiles, and tiles reach into rows and columns of those around them.
#pragma once
#include "winograd.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Channels {
  int64_t first, count;
};

class TilesAhead {
 public:
  // Of tiles that overlap by so many rows and columns, those pixels that none above or to the left has: M^2 each. Where tiles begin a map,
  // which are more, the steps end before the last ones. x may be null: nothing.
  INLINE TilesAhead(const Map& map, const storage* x, int64_t overlap, const TileGrid& grid, const Tiles& tiles, const Channels& channels,
                    int64_t steps)
      : map_(map),
        x_(x),
        overlap_(overlap),
        channels_(channels),
        walk_(grid, tiles.first),
        left_(x ? tiles.count : 0),
        pixels_of_step_(divide_up(left_ * grid.M * grid.M, steps)) {
    if (left_) begin_tile();
  }
  INLINE void step() {
    constexpr int64_t line = 64 / int64_t(sizeof(storage));
    for (int64_t n = 0; n < pixels_of_step_ && left_; n++) {
      const storage* const pixel = x_ + ((walk_.at.image * map_.H + rows_.at) * map_.W + column_) * map_.channels + channels_.first;
      for (int64_t c = 0; c < channels_.count; c += line) __builtin_prefetch(pixel + c, 0, 2);  // into the L2 cache
      if (++column_ >= columns_.end) next_row();
    }
  }

 private:
  struct Stretch {  // of a tile's rows or columns
    int64_t at, end;
  };
  INLINE Stretch reach(int64_t first, int64_t outputs, int64_t border, int64_t size) const {
    const int64_t begin = first + border;
    return {larger(0, first ? begin + overlap_ : begin), smaller(size, begin + outputs + overlap_)};
  }
  INLINE void begin_tile() {
    const auto& [grid, tile] = walk_;
    rows_ = reach(tile.row, grid.M - !tile.tall, map_.top, map_.H);
    columns_ = reach(tile.column, grid.M - !tile.wide, map_.left, map_.W);
    column_ = columns_.at;
    if (rows_.at >= rows_.end || columns_.at >= columns_.end) next_tile();
  }
  INLINE void next_row() {
    column_ = columns_.at;
    if (++rows_.at >= rows_.end) next_tile();
  }
  void next_tile() {
    if (--left_ == 0) return;
    walk_.next(), begin_tile();
  }

  Map map_;
  const storage* x_;
  int64_t overlap_;
  Channels channels_;
  Walk walk_;
  int64_t left_, pixels_of_step_;
  Stretch rows_ = {}, columns_ = {};
  int64_t column_ = 0;
};

}  // namespace
}  // namespace fastnn::FASTNN_TABLE
