#include "direct.h"

#include "../own.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int64_t most_plane_bytes = (vector_bytes == 32 ? 128 : 512) * 1024;  // of a block's copied input: it stays in the L2 cache
constexpr int64_t least_block_work = 256 * 1024;                               // multiply-adds
constexpr int64_t wanted_blocks = 16;
// A wider reduction goes over its channels in several passes, so that a pass's weights stay in the L1 cache.
constexpr int64_t most_panel_bytes = vector_bytes == 32 ? 24 * 1024 : 80 * 1024;
constexpr int64_t wanted_pass_bytes = vector_bytes == 32 ? 20 * 1024 : 40 * 1024;

int64_t phase_width(const Direct& d) { return divide_up(d.W, d.step_w); }
int64_t phase_height(const Direct& d) { return divide_up(d.H, d.step_h); }
int64_t phase_count(const Direct& d) { return d.step_h * d.step_w; }
int64_t panel_columns(const Direct& d) { return int64_t(d.Z) * N_LANES; }
int64_t depth(const Direct& d) { return terms * operands_of(d.merged * d.input.channels); }
int64_t band_plane_rows(const Direct& d, int64_t band_rows) { return (band_rows - 1) * d.input.step_h + d.reach_h; }

struct Parts {
  DirectTables tables;
  operand* weights;
  Own<operand> planes;
  int64_t group_weights, bytes;
};

Parts layout(const Context& context, const Direct& d, void* base) {
  Parts parts;
  Scratch scratch(base);
  parts.tables.phase = scratch.take<OutputPhase>(phase_count(d));
  parts.tables.tap = scratch.take<int32_t>(d.taps);
  parts.tables.source = scratch.take<int32_t>(d.taps);
  parts.tables.row = scratch.take<int64_t>(phase_width(d) * d.input.images);
  parts.tables.two_rows = scratch.take<int64_t>(on_tiles ? divide_up(phase_width(d) * d.input.images, 16) * 32 : 0);
  parts.group_weights = d.panels * panel_columns(d) * depth(d) * d.taps;
  parts.weights = scratch.take<operand>(d.groups * parts.group_weights);
  parts.planes = {context, scratch, terms * d.input.size(d.plane_rows) + read_beyond * larger(1, d.input.pitch / N_LANES)};
  parts.bytes = scratch.bytes();
  return parts;
}

// Where the weights of a phase's panel begin in those of its group: [phase][panel][term][block of operands][tap][operand][Z vectors].
int64_t panel_at(const Direct& d, const OutputPhase& phase, int64_t panel) {
  return (phase.first_tap * d.panels + phase.taps * panel) * depth(d) * panel_columns(d);
}

void pack_weight_panel(const Direct& d, const DirectTables& tables, const storage* w, int64_t group, int64_t panel, operand* packed) {
  const int64_t run = d.taps3 ? 3 : 1, columns = panel_columns(d), in = d.merged * d.input.channels, first = panel * columns;
  const int valid = int(smaller(columns, d.channels - first));
  for (int64_t f = 0; f < phase_count(d); f++) {
    const OutputPhase& phase = tables.phase[f];
    operand* to = packed + panel_at(d, phase, panel);
    for (int64_t block = 0, blocks = divide_up(in, plane_numbers); block < terms * blocks; block++) {
      const int64_t c = block % blocks * plane_numbers, numbers = smaller(plane_numbers, in - c), rows = operands_of(numbers);
      const Piece piece = b_piece[block / blocks];
      for (int64_t t = 0; t < phase.taps; t++) {
        const int64_t source = tables.source[phase.first_tap + t];
        operand* first_row = to + (t / run * rows * run + t % run) * columns;
        if (d.transposed_weights)  // w: [group][out][tap][in]
          pack_panel(w + ((group * d.channels + first) * d.taps + source) * in + c, d.taps * in, true, numbers, valid, d.Z, piece,
                     first_row, run * columns);
        else  // w: [group][in][tap][out]
          pack_panel(w + ((group * in + c) * d.taps + source) * d.channels + first, d.taps * d.channels, false, numbers, valid, d.Z, piece,
                     first_row, run * columns);
      }
      to += phase.taps * rows * columns;
    }
  }
}

void pack_weights(const Context& context, const Direct& d, const Parts& parts, const storage* w) {
  const int64_t panels = d.groups * d.panels, size = panel_columns(d) * depth(d) * d.taps;
  const int64_t at_once = larger(1, 16384 / size);
  parallel(context, divide_up(panels, at_once), [&](int64_t block, int) {
    for (int64_t i = block * at_once; i < smaller(panels, (block + 1) * at_once); i++)
      pack_weight_panel(d, parts.tables, w, i / d.panels, i % d.panels, parts.weights + i / d.panels * parts.group_weights);
  });
}

struct Band {
  int64_t begin, end;  // output rows of each phase
};

int64_t row_step(const Direct& d) { return d.step_h * d.W * d.pixel_stride; }  // from one output row of a phase to the next

#include "../../amx/two_rows.h"
// Interleaves the images of short rows, so that tiles are full. With tap reuse and few channels, 8 pixels do.
int64_t choose_images(const Direct& d) {
  if (on_tiles) return images_to_interleave(d.N, phase_width(d), 32, 16, true);
  const int64_t wanted = d.input.channels >= 128 || !d.taps3 ? 2 * d.rows : 8;
  int64_t images = 1;
  while (images < 8 && phase_width(d) * images < wanted && d.N % (2 * images) == 0) images *= 2;
  return d.input.pitch == N_LANES ? images : 1;
}

// Outputs that no tap reaches.
void write_zeros(const Direct& d, const OutputPhase& phase, const Band& band, storage* y, int64_t image_stride) {
  for (int64_t image = 0; image < d.input.images; image++)
    for (int64_t p = band.begin; p < band.end; p++)
      for (int64_t q = 0; q < phase.W; q++) {
        storage* pixel = y + image * image_stride + phase.base + (p * d.step_h * d.W + q * d.step_w) * d.pixel_stride;
        for_vectors(0, d.channels, [&](int64_t c, auto, auto store) { store(pixel + c, zero()); });
      }
}

// One pass of one panel over a band: `over` says which channels. Rows are cut evenly into tiles of two sizes.
void sweep(const Direct& d, const OutputPhase& phase, const Band& band, const Reduction& over, const operand* plane, const operand* weights,
           const DirectTables& tables, Target<storage> to) {
  if (on_tiles && divide_up(phase.W * d.input.images, 16) % 2)
    return sweep_two_rows(d, phase, band, over, plane, weights, tables.two_rows, to);
  const int64_t length = phase.W * d.input.images, tiles = divide_up(length, d.rows), few = length / tiles, more = length % tiles;
  const auto pick = [&](int64_t count) {
    return d.taps3 ? taps3_tile<storage>(int(count), d.Z, int(d.input.images)) : tile<storage>(int(count), d.Z, d.input.pitch);
  };
  const Tile<storage> few_rows = pick(few), more_rows = more ? pick(few + 1) : few_rows;
  const int64_t plane_step = d.input.step_h * d.input.row_stride(), y_step = row_step(d);
  storage* y = to.y + band.begin * y_step;
  for (int64_t p = band.begin; p < band.end; p++, plane += plane_step, y += y_step) {
    const operand* a = plane;
    to.y = y;
    to.row = tables.row;
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t count = few + (t < more);
      (t < more ? more_rows : few_rows)(over, a, weights, to);
      a += count * d.input.pitch;
      to.row += count;
    }
  }
}

void run_panel(const Direct& d, const OutputPhase& phase, const Band& band, int64_t panel, const DirectTables& tables, const operand* plane,
               const operand* weights, const real* bias, storage* y) {
  const int64_t columns = panel_columns(d), first = panel * columns, plane_stride = d.input.plane_stride(d.plane_rows);
  const int64_t block_bytes = phase.taps * N_LANES * columns * int64_t(sizeof(operand)), blocks = terms * d.input.planes();
  const int64_t pass = !narrow && (d.taps3 || vector_bytes == 32) && blocks * block_bytes > most_panel_bytes
                           ? larger(1, wanted_pass_bytes / block_bytes)
                           : blocks;
  Target<storage> to = {y + phase.base + first, tables.row, bias ? bias + first : nullptr, int(smaller(columns, d.channels - first)), false,
                        Activation::none};
  for (int64_t block = 0; block < blocks; block += pass) {
    const int64_t c = block * N_LANES;
    if (block + pass >= blocks) to.activation = d.activation;
    const Reduction over = {tables.tap + phase.first_tap,
                            int(phase.taps),
                            smaller(pass * N_LANES, depth(d) - c),
                            plane_stride,
                            d.input.pitch,
                            16 * d.input.pitch};
    sweep(d, phase, band, over, plane + block * plane_stride, weights + c * phase.taps * columns, tables, to);
    to.accumulate = true;
  }
}

void run_block(const Direct& d, const Parts& parts, const ConvOperands& o, int64_t block, operand* plane) {
  const int64_t split = block % d.splits, band_number = block / d.splits % d.bands, rest = block / d.splits / d.bands;
  const int64_t images = d.input.images, image = rest % (d.N / images) * images, group = rest / (d.N / images);
  const Band all = {band_number * d.band_rows, smaller((band_number + 1) * d.band_rows, phase_height(d))};
  const storage* x = o.in + image * d.input.H * d.input.W * d.input.pixel_stride + group * d.input.channels;
  const int64_t plane_stride = d.input.plane_stride(d.plane_rows), rows = band_plane_rows(d, all.end - all.begin);
  for (int term = 0; term < terms; term++)
    copy_rows(d.input, x, all.begin * d.input.step_h, rows, plane + term * d.input.planes() * plane_stride, plane_stride, a_piece[term]);

  const OnTiles tiles;
  const int64_t image_stride = d.H * d.W * d.pixel_stride;
  storage* y = o.out + image * image_stride + group * d.channels;
  const real* bias = o.bias ? o.bias + group * d.channels : nullptr;
  for (int64_t f = 0; f < phase_count(d); f++) {
    const OutputPhase& phase = parts.tables.phase[f];
    const Band band = {all.begin, smaller(all.end, phase.H)};
    if (band.begin >= band.end || phase.W == 0) continue;
    if (phase.taps == 0) {
      if (split == 0) write_zeros(d, phase, band, y, image_stride);
      continue;
    }
    for (int64_t panel = d.panels * split / d.splits; panel < d.panels * (split + 1) / d.splits; panel++)
      run_panel(d, phase, band, panel, parts.tables, plane, parts.weights + group * parts.group_weights + panel_at(d, phase, panel), bias,
                y);
  }
}

}  // namespace

void choose_blocks(Direct& d) {
  d.Z = tile_vectors(d.channels, d.taps3 ? most_taps3_vectors : most_vectors);
  d.rows = tile_rows(d.Z, d.taps3 ? 3 : 1);
  d.panels = divide_up(d.channels, panel_columns(d));
  d.input.images = choose_images(d);
  const int64_t height = larger(1, phase_height(d)), image_groups = d.groups * larger(1, d.N / d.input.images);
  const int64_t work = d.N * d.groups * d.merged * d.input.channels * d.channels * d.taps * phase_height(d) * phase_width(d);
  const int64_t wanted = larger(1, smaller(wanted_blocks, work / least_block_work));
  const int64_t plane_bytes = terms * d.input.size(band_plane_rows(d, height)) * int64_t(sizeof(operand));
  const int64_t bands = larger(divide_up(plane_bytes, most_plane_bytes), smaller(divide_up(wanted, image_groups), height / 4));
  d.band_rows = divide_up(height, smaller(height, larger(1, bands)));
  d.bands = divide_up(height, d.band_rows);
  d.plane_rows = band_plane_rows(d, d.band_rows);
  d.splits = smaller(d.panels, divide_up(wanted, image_groups * d.bands));
}

int64_t direct_scratch_bytes(const Context& context, const Direct& d) { return layout(context, d, nullptr).bytes; }
DirectTables direct_tables(const Context& context, const Direct& d, void* scratch) { return layout(context, d, scratch).tables; }

void run_direct(const Context& context, const Direct& d, const ConvOperands& operands, void* scratch) {
  const Parts parts = layout(context, d, scratch);
  const int64_t images = d.input.images, image_stride = d.H * d.W * d.pixel_stride;
  for (int64_t j = 0; j < phase_width(d) * images; j++)
    parts.tables.row[j] = j % images * image_stride + j / images * d.step_w * d.pixel_stride;
  if (on_tiles) find_two_rows(d, parts.tables);
  if (context.packing != Packing::kept) pack_weights(context, d, parts, operands.with);
  parallel(context, d.blocks(), [&](int64_t block, int worker) { run_block(d, parts, operands, block, parts.planes.of(context, worker)); });
}

}  // namespace fastnn::FASTNN_TABLE
