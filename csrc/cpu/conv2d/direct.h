// Direct convolution: what forward and backward-to-input have in common. Both sweep register tiles over a padded copy of their input
// (padded.h), whose taps are constant offsets. Backward to the input is a convolution of dy with the taps flipped; with a stride it falls
// into one convolution for each residue of the output position (an output phase), each with the taps that reach it.
#pragma once
#include "../gemm.h"
#include "algorithm.h"
#include "padded.h"

namespace fastnn::FASTNN_TABLE {

struct Direct {
  PaddedInput input;
  int64_t N, groups;
  int64_t taps, reach_h, reach_w;  // taps of all phases; rows and columns that they span in the plane
  int64_t merged = 1;              // taps that are one of as many times the channels, since they lie side by side in the plane
  int64_t H, W, step_h, step_w;    // the output, and from one output of a phase to the next
  int64_t channels, pixel_stride;  // output channels of a group; of all groups
  bool transposed_weights;         // packed from [out][tap][in] (forward), else from [in][tap][out]
  bool taps3;
  Activation activation;
  int Z, rows;                           // the tile: vectors of output channels, most pixels
  int64_t panels;                        // of Z vectors
  int64_t bands, band_rows, plane_rows;  // bands of output rows (of a phase), and the rows of input that one needs
  int64_t splits;                        // parts of the panels
  int64_t blocks() const { return groups * (N / input.images) * bands * splits; }
};

// One output phase: the outputs (h step + first row, w step + first column), and the taps that reach them.
struct OutputPhase {
  int64_t H, W, base;  // how many rows and columns; offset of its first element in an image
  int64_t first_tap, taps;
};

// Chooses tile, interleaving, bands and splits for a geometry whose other fields are set.
void choose_blocks(Direct& direct);

// The tables that a run reads: taps[i] is the offset of tap i in the plane, source[i] its place in the weight (r S + s).
struct DirectTables {
  OutputPhase* phase;
  int32_t* tap;
  int32_t* source;
  int64_t* row;
  int64_t* two_rows;  // AMX: of sixteen outputs of one row, then of the same ones of the next
};

int64_t direct_scratch_bytes(const Context& context, const Direct& direct);
DirectTables direct_tables(const Context& context, const Direct& direct, void* scratch);
void run_direct(const Context& context, const Direct& direct, const ConvOperands& operands, void* scratch);

}  // namespace fastnn::FASTNN_TABLE
