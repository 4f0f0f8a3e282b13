// Normalisation of each sample by the mean and variance of its groups of channels, y = gamma (x - mean) rstd + beta. A sample's pixels are
// cut into fixed pieces; what is known of a piece's channels is joined in order, first over pieces, then over a group's channels.
#include "moments.h"
#include "past_caches.h"

namespace fastnn::FASTNN_TABLE {
namespace {

struct Parts {    // of the scratch
  int64_t width;  // of a folded row; each channel's numbers are repeated along it
  real *mean, *scale, *shift,
      *slope;  // of each sample, rows of `width`: y = scale (x - mean) + shift, dx = scale dy - shift - slope (x - mean)
  real *piece_first, *piece_second;  // rows of C, one per piece: mean and squares, or the two sums of backward
  double *first, *second;            // rows of C, one per sample: the same over its pieces
  int64_t bytes;
};

int64_t pieces_of(const GroupNorm& s) { return divide_up(s.pixels, rows_per_block(s.C)); }

Parts lay_out(const GroupNorm& s, void* base) {
  Scratch scratch(base);
  const int64_t width = fold_rows(s.C).width, piece = s.N * pieces_of(s) * s.C;
  Parts p;
  p.width = width;
  p.mean = scratch.take<real>(s.N * width), p.scale = scratch.take<real>(s.N * width);
  p.shift = scratch.take<real>(s.N * width), p.slope = scratch.take<real>(s.N * width);
  p.piece_first = scratch.take<real>(piece), p.piece_second = scratch.take<real>(piece);
  p.first = scratch.take<double>(s.N * s.C), p.second = scratch.take<double>(s.N * s.C);
  p.bytes = scratch.bytes();
  return p;
}

// body(piece, n, offset of its first element, its rows): a piece of all samples'
template <class F>
INLINE void at_piece(const GroupNorm& s, int64_t piece, const F& body) {
  const int64_t pieces = pieces_of(s), rows = rows_per_block(s.C), n = piece / pieces, first = piece % pieces * rows;
  body(piece, n, (n * s.pixels + first) * s.C, smaller(rows, s.pixels - first));
}

template <class F>
INLINE void for_samples(const Context& context, const GroupNorm& s, int64_t size, int64_t of_a_block, const F& body) {
  const int64_t at_once = larger(1, of_a_block / size);
  parallel(context, divide_up(s.N, at_once), [&](int64_t block, int) {
    for (int64_t n = block * at_once; n < smaller((block + 1) * at_once, s.N); n++) body(n);
  });
}
// of which each takes a few numbers for each of its channels
template <class F>
INLINE void for_samples(const Context& context, const GroupNorm& s, const F& body) {
  for_samples(context, s, s.C, 4096, body);
}

constexpr int64_t of_a_block = 32768;      // numbers worth another thread
constexpr int64_t most_read = 256 * 1024;  // numbers of a sample that the caches hold until they are met again

// Samples that are large, or too few for several threads to share, go piece by piece; the bits are the same.
bool sample_by_sample(const GroupNorm& s, int64_t arrays_read) {
  const int64_t size = s.pixels * s.C;
  return size * arrays_read <= most_read && (s.N >= 8 || s.N * size <= of_a_block);
}

// look at each piece of a sample, join(n) what was seen, make the piece's results
template <class Look, class Join, class Make>
INLINE void in_turn(const Context& context, const GroupNorm& s, int64_t arrays_read, const Look& look, const Join& join, const Make& make) {
  const int64_t pieces = pieces_of(s);
  if (sample_by_sample(s, arrays_read))
    return for_samples(context, s, s.pixels * s.C, of_a_block, [&](int64_t n) {
      for (int64_t i = n * pieces; i < (n + 1) * pieces; i++) at_piece(s, i, look);
      join(n);
      for (int64_t i = n * pieces; i < (n + 1) * pieces; i++) at_piece(s, i, make);
    });
  parallel(context, s.N * pieces, [&](int64_t i, int) { at_piece(s, i, look); });
  for_samples(context, s, join);
  parallel(context, s.N * pieces, [&](int64_t i, int) { at_piece(s, i, make); });
}

// make of in_turn: step(i, place in the tables, load, store) on a piece's vectors, where all that is stored are elements of y
template <class F>
INLINE auto by_folded_rows(const Context& context, const GroupNorm& s, int64_t width, T* y, const F& step) {
  const bool past = s.pixels * s.C % N_LANES == 0 && goes_past(context, y, s.N * s.pixels * s.C * int64_t(sizeof(T)), width);
  return [=](int64_t, int64_t n, int64_t begin, int64_t rows) {
    const int64_t end = begin + rows * s.C;
    for (int64_t i = begin; i < end; i += width)
      for_vectors(0, smaller(width, end - i), past, [=](int64_t c, auto load, auto store) { step(i + c, n * width + c, load, store); });
    finish(past);
  };
}

// The mean and the variance of a group, from those of its channels over all pixels.
struct GroupMoments {
  double mean, variance;
};
GroupMoments join_channels(int64_t channels, int64_t pixels, const double* mean, const double* squares) {
  double sum = 0, total = 0;
  for (int64_t c = 0; c < channels; c++) sum += mean[c];
  const double center = sum / double(channels);
  for (int64_t c = 0; c < channels; c++) total += squares[c] + double(pixels) * (mean[c] - center) * (mean[c] - center);
  return {center, total / (double(channels) * double(pixels))};
}

void join_pieces_of_moments(const GroupNorm& s, const Parts& p, int64_t n) {
  double *const mean = p.first + n * s.C, *const squares = p.second + n * s.C;
  for (int64_t c = 0; c < s.C; c++) mean[c] = squares[c] = 0;
  int64_t rows = 0;
  for (int64_t piece = n * pieces_of(s); piece < (n + 1) * pieces_of(s); piece++) {
    const int64_t more = smaller(rows_per_block(s.C), s.pixels - rows);
    combine_moments(s.C, rows, mean, squares, more, p.piece_first + piece * s.C, p.piece_second + piece * s.C);
    rows += more;
  }
}

void join_pieces_of_sums(const GroupNorm& s, const Parts& p, int64_t n) {
  double *const first = p.first + n * s.C, *const second = p.second + n * s.C;
  for (int64_t c = 0; c < s.C; c++) first[c] = second[c] = 0;
  for (int64_t piece = n * pieces_of(s); piece < (n + 1) * pieces_of(s); piece++) {
    for (int64_t c = 0; c < s.C; c++) first[c] += p.piece_first[piece * s.C + c], second[c] += p.piece_second[piece * s.C + c];
  }
}

void repeat_tables(const Parts& p, int64_t C, int64_t n) {
  real* const tables[4] = {p.mean, p.scale, p.shift, p.slope};
  for (int k = 0; k < 4; k++) {
    real* const row = tables[k] + n * p.width;
    for (int64_t i = C; i < p.width; i++) row[i] = row[i - C];
  }
}

}  // namespace

Plan groupnorm_forward_plan(const Context&, const GroupNorm& s) {
  return {sample_by_sample(s, 1) ? "sample_by_sample" : "piece_by_piece", lay_out(s, nullptr).bytes};
}
Plan groupnorm_backward_plan(const Context&, const GroupNorm& s) {
  return {sample_by_sample(s, 2) ? "sample_by_sample" : "piece_by_piece", lay_out(s, nullptr).bytes};
}

void groupnorm_forward(const Context& context, const GroupNorm& s, const T* x, const R* gamma, const R* beta, T* y, R* mean, R* rstd,
                       void* scratch) {
  const Parts p = lay_out(s, scratch);
  const int64_t channels = s.C / s.groups;
  const auto look = [&](int64_t piece, int64_t, int64_t begin, int64_t rows) {
    block_moments(x + begin, rows, s.C, p.piece_first + piece * s.C, p.piece_second + piece * s.C);
  };
  const auto join = [&](int64_t n) {
    join_pieces_of_moments(s, p, n);
    for (int64_t g = 0; g < s.groups; g++) {
      const GroupMoments m = join_channels(channels, s.pixels, p.first + n * s.C + g * channels, p.second + n * s.C + g * channels);
      const R center = mean[n * s.groups + g] = R(m.mean), scale = rstd[n * s.groups + g] = R(1 / __builtin_sqrt(m.variance + s.eps));
      for (int64_t c = g * channels; c < (g + 1) * channels; c++) {
        p.mean[n * p.width + c] = center;
        p.scale[n * p.width + c] = gamma ? gamma[c] * scale : scale;
        p.shift[n * p.width + c] = beta ? beta[c] : 0;
        p.slope[n * p.width + c] = 0;
      }
    }
    repeat_tables(p, s.C, n);
  };
  in_turn(context, s, 1, look, join, by_folded_rows(context, s, p.width, y, [=](int64_t i, int64_t c, auto load, auto store) {
            store(y + i, fma(load(x + i) - load(p.mean + c), load(p.scale + c), load(p.shift + c)));
          }));
}

// With g = dy gamma, m = the size of a group: dx = rstd (g - (sum of g) / m) - rstd^3 (x - mean) (sum of g (x - mean)) / m.
void groupnorm_backward(const Context& context, const GroupNorm& s, const T* x, const T* dy, const R* gamma, const R* mean, const R* rstd,
                        T* dx, R* dgamma, R* dbeta, void* scratch) {
  const Parts p = lay_out(s, scratch);
  const int64_t channels = s.C / s.groups;
  for_samples(context, s, [&](int64_t n) {
    for (int64_t i = 0; i < p.width; i++) p.mean[n * p.width + i] = mean[n * s.groups + i % s.C / channels];
  });
  const auto look = [&](int64_t piece, int64_t n, int64_t begin, int64_t rows) {
    real* const sums[2] = {p.piece_first + piece * s.C, p.piece_second + piece * s.C};
    const real* const center = p.mean + n * p.width;
    sum_columns(rows, s.C, sums, [=](int64_t row, int64_t c, vec(&t)[2], auto load, auto) {
      const int64_t i = begin + row * p.width + c;
      t[0] = load(dy + i);
      t[1] = t[0] * (load(x + i) - load(center + c));
    });
  };
  const auto join = [&](int64_t n) {
    join_pieces_of_sums(s, p, n);
    const double *const sum = p.first + n * s.C, *const along = p.second + n * s.C;
    for (int64_t g = 0; g < s.groups; g++) {
      double group_sum = 0, group_along = 0;
      for (int64_t c = g * channels; c < (g + 1) * channels; c++)
        group_sum += sum[c] * (gamma ? gamma[c] : 1), group_along += along[c] * (gamma ? gamma[c] : 1);
      const double scale = rstd[n * s.groups + g], share = scale / (double(channels) * double(s.pixels));
      for (int64_t c = g * channels; c < (g + 1) * channels; c++) {
        p.scale[n * p.width + c] = real(scale * (gamma ? gamma[c] : 1));
        p.shift[n * p.width + c] = real(share * group_sum);
        p.slope[n * p.width + c] = real(share * scale * scale * group_along);
      }
    }
    repeat_tables(p, s.C, n);
  };
  in_turn(context, s, 2, look, join, by_folded_rows(context, s, p.width, dx, [=](int64_t i, int64_t c, auto load, auto store) {
            const vec along_x = load(p.slope + c) * (load(x + i) - load(p.mean + c));
            store(dx + i, fma(load(p.scale + c), load(dy + i), -load(p.shift + c)) - along_x);
          }));
  if (!s.affine) return;
  constexpr int64_t at_once = 64;
  parallel(context, divide_up(s.C, at_once), [&](int64_t block, int) {
    for (int64_t c = block * at_once; c < smaller((block + 1) * at_once, s.C); c++) {
      double sum = 0, along = 0;
      for (int64_t n = 0; n < s.N; n++)
        sum += p.first[n * s.C + c], along += p.second[n * s.C + c] * double(rstd[n * s.groups + c / channels]);
      dbeta[c] = R(sum), dgamma[c] = R(along);
    }
  });
}

}  // namespace fastnn::FASTNN_TABLE
