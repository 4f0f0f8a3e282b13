// Sums over all but the channels: the gradient of a bias.
#include "columns.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

struct ToChannels {
  R* sum;
  __device__ void put(int64_t, int64_t, int64_t c, double total) const { sum[c] = R(total); }
};

Columns cut_of(const Channels& s) { return {1, s.rows, s.C, usual_blocks}; }

}  // namespace

Plan channel_sum_plan(const Context&, const Channels& s) {
  const Columns cut = cut_of(s);
  return {cut.chunks == 1 ? "whole" : "chunks", column_sums_scratch(cut)};
}

void channel_sum(const Context& context, const Channels& s, const T* x, R* sum, void* scratch) {
  with_packs(s.C, are_aligned(x),
             [&](auto packs) { sum_columns<decltype(packs)>(context, cut_of(s), DenseGroups{x, s.rows, s.C}, ToChannels{sum}, scratch); });
}

}  // namespace fastnn::FASTNN_TABLE
