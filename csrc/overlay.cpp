// The table of an instruction set that multiplies bfloat16: the one below it (FASTNN_BELOW), whose convolutions and matrix products give
// way to those compiled with FASTNN_PAIRS for the shapes and precisions where these are the right ones.
#include "cpu/conv2d/algorithm.h"
#include "cpu/operand.h"
#include "table.h"
#if defined(FASTNN_TILES)
#include "amx/first_layers.h"
#endif

#define NAME(x) NAME_OF(x)
#define NAME_OF(x) #x

namespace fastnn {
namespace FASTNN_BELOW {
extern const Table table;
}
namespace FASTNN_TABLE {
namespace {

const Kernel& below(Row row) { return FASTNN_BELOW::table.kernels[row]; }

template <Row row>
void run(const Context& context, const void* parameters, void* const* operands) {
  below(row).run(context, parameters, operands);
}
template <Row row>
Plan plan(const Context& context, const void* parameters) {
  return below(row).plan(context, parameters);
}

// float32 operands are rounded, or taken apart, only where that was asked for.
bool asked_for(const Context& context) { return narrow || context.precision == (terms > 1 ? Precision::high : Precision::medium); }

// --- convolutions

const ConvAlgorithm* const forward_list[] = {&direct_taps3_forward, &direct_forward};
const ConvAlgorithm* const backward_input_list[] = {&direct_taps3_backward_input, &direct_backward_input};
const ConvAlgorithm* const backward_weight_list[] = {&direct_taps3_backward_weight, &direct_backward_weight};

// Of a few channels too much of a vector, or of a tile, stays empty. Zen 5's pairs give twice the
// direct sums of float32, and F(4 x 4) is faster still, also in first layers, as it is beside three products on tiles; F(2 x 2) is not. A
// sum over the pixels of one image has no second image to be paired with. Three products on tiles pay where there is much to sum up for
// each number that is taken apart: over 64 channels of nine taps (128, where that is done for each tap), never in products of matrices.
bool below_is_faster(Row row, const Context& context, const Conv2d& v) {
  const int64_t inner = (row == row_conv2d_backward_input ? v.K : v.C) / v.G;
  const bool of_pixels = row == row_conv2d_backward_weight;
  if (terms > 1 && inner * v.R * v.S < (of_pixels ? 1152 : 576)) return true;
  if (inner < (on_tiles ? 16 : of_pixels ? 5 : row == row_conv2d_forward ? 2 : 1)) return true;
  if (on_tiles && terms == 1) return false;
  if (of_pixels && v.N == 1) return true;
  const char* const algorithm = below(row).plan(context, &v).algorithm;
  return __builtin_strncmp(algorithm, "winograd4", 9) == 0 || __builtin_strcmp(algorithm, "winograd_first") == 0;
}

// Few channels, whose whole windows fill a tile. Null: none.
const ConvAlgorithm* windows([[maybe_unused]] Row row, [[maybe_unused]] const Context& context, [[maybe_unused]] const Conv2d& v) {
#if defined(FASTNN_TILES)
  if (terms > 1 || v.C == 1 || !of_whole_windows(v)) return nullptr;
  if (row == row_conv2d_forward) return &direct_windows_forward;
  if (row == row_conv2d_backward_weight && __builtin_strcmp(below(row).plan(context, &v).algorithm, "winograd_first") != 0)
    return &direct_windows_backward_weight;
#endif
  return nullptr;
}

// Null: the table below.
const ConvAlgorithm* chosen(Row row, const Context& context, const Conv2d& v) {
  if (!asked_for(context) || is_vast(v)) return nullptr;
  if (const ConvAlgorithm* algorithm = windows(row, context, v)) return algorithm;
  if (below_is_faster(row, context, v)) return nullptr;
  const auto& list = row == row_conv2d_forward          ? forward_list
                     : row == row_conv2d_backward_input ? backward_input_list
                                                        : backward_weight_list;
  for (const ConvAlgorithm* algorithm : list)
    if (algorithm->accepts(v)) return algorithm;
  return nullptr;
}

template <Row row>
Plan plan_convolution(const Context& context, const void* parameters) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  const ConvAlgorithm* algorithm = chosen(row, context, conv);
  if (!algorithm) return below(row).plan(context, parameters);
  return {algorithm->name, algorithm->scratch_bytes(context, conv), algorithm->packs && may_keep(conv) ? 1 : -1};
}
template <Row row>
void run_convolution(const Context& context, const void* parameters, void* const* operands) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  const ConvAlgorithm* algorithm = chosen(row, context, conv);
  if (!algorithm) return below(row).run(context, parameters, operands);
  if (row == row_conv2d_backward_weight)
    return algorithm->run(context, conv,
                          weight_operands(static_cast<const storage*>(operands[0]), static_cast<const storage*>(operands[1]),
                                          static_cast<real*>(operands[2])),
                          operands[3]);
  constexpr int bias = row == row_conv2d_forward ? 1 : 0;  // the one that has a bias, before the result
  algorithm->run(context, conv,
                 {static_cast<const storage*>(operands[0]), static_cast<const storage*>(operands[1]),
                  bias ? static_cast<const real*>(operands[2]) : nullptr, static_cast<storage*>(operands[2 + bias])},
                 operands[3 + bias]);
}

#define CONVOLUTION(row)                                                                 \
  template <>                                                                            \
  Plan plan<row>(const Context& context, const void* parameters) {                       \
    return plan_convolution<row>(context, parameters);                                   \
  }                                                                                      \
  template <>                                                                            \
  void run<row>(const Context& context, const void* parameters, void* const* operands) { \
    run_convolution<row>(context, parameters, operands);                                 \
  }
CONVOLUTION(row_conv2d_forward)
CONVOLUTION(row_conv2d_backward_input)
CONVOLUTION(row_conv2d_backward_weight)

// With a residual (cpu/residual.cpp): x w b residual -> y
template <>
Plan plan<row_conv2d_add_forward>(const Context& context, const void* parameters) {
  const bool own = chosen(row_conv2d_forward, context, *static_cast<const Conv2d*>(parameters));
  return own ? plan<row_conv2d_forward>(context, parameters) : below(row_conv2d_add_forward).plan(context, parameters);
}
template <>
void run<row_conv2d_add_forward>(const Context& context, const void* parameters, void* const* o) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  if (!chosen(row_conv2d_forward, context, conv)) return below(row_conv2d_add_forward).run(context, parameters, o);
  conv2d_add_forward(context, conv, static_cast<const storage*>(o[0]), static_cast<const storage*>(o[1]), static_cast<const real*>(o[2]),
                     static_cast<const storage*>(o[3]), static_cast<storage*>(o[4]), o[5]);
}

// An input gradient behind another: dy w before -> dx
template <>
Plan plan<row_conv2d_add_backward_input>(const Context& context, const void* parameters) {
  return plan<row_conv2d_backward_input>(context, parameters);
}
template <>
void run<row_conv2d_add_backward_input>(const Context& context, const void* parameters, void* const* o) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  if (!chosen(row_conv2d_backward_input, context, conv)) return below(row_conv2d_add_backward_input).run(context, parameters, o);
  conv2d_add_backward_input(context, conv, static_cast<const storage*>(o[0]), static_cast<const storage*>(o[1]),
                            static_cast<const storage*>(o[2]), static_cast<storage*>(o[3]), o[4]);
}

// The weight gradient of a normalised input: z gamma beta mean rstd dy -> dw
template <>
Plan plan<row_conv2d_normalized_backward_weight>(const Context& context, const void* parameters) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  if (!chosen(row_conv2d_backward_weight, context, conv)) return below(row_conv2d_normalized_backward_weight).plan(context, parameters);
  return conv2d_normalized_backward_weight_plan(context, conv);
}
template <>
void run<row_conv2d_normalized_backward_weight>(const Context& context, const void* parameters, void* const* o) {
  const Conv2d& conv = *static_cast<const Conv2d*>(parameters);
  if (!chosen(row_conv2d_backward_weight, context, conv)) return below(row_conv2d_normalized_backward_weight).run(context, parameters, o);
  conv2d_normalized_backward_weight(context, conv, static_cast<const storage*>(o[0]), static_cast<const real*>(o[1]),
                                    static_cast<const real*>(o[2]), static_cast<const real*>(o[3]), static_cast<const real*>(o[4]),
                                    static_cast<const storage*>(o[5]), static_cast<real*>(o[6]), o[7]);
}

// The convolution, then the batch normalisation: x w b gamma beta residual running_mean running_var -> z y mean rstd
template <>
Plan plan<row_conv2d_batchnorm_forward>(const Context& context, const void* parameters) {
  const Conv2dBatchNorm& v = *static_cast<const Conv2dBatchNorm*>(parameters);
  if (!chosen(row_conv2d_forward, context, v.conv)) return below(row_conv2d_batchnorm_forward).plan(context, parameters);
  const Plan conv = plan<row_conv2d_forward>(context, &v.conv), norm = below(row_batchnorm_forward).plan(context, &v.norm);
  return {conv.algorithm, conv.scratch_bytes > norm.scratch_bytes ? conv.scratch_bytes : norm.scratch_bytes};
}
template <>
void run<row_conv2d_batchnorm_forward>(const Context& context, const void* parameters, void* const* o) {
  const Conv2dBatchNorm& v = *static_cast<const Conv2dBatchNorm*>(parameters);
  if (!chosen(row_conv2d_forward, context, v.conv)) return below(row_conv2d_batchnorm_forward).run(context, parameters, o);
  void* const conv[] = {o[0], o[1], o[2], o[8], o[12]};
  run<row_conv2d_forward>(context, &v.conv, conv);
  void* const norm[] = {o[8], o[3], o[4], o[5], o[6], o[7], o[9], o[10], o[11], o[12]};
  below(row_batchnorm_forward).run(context, &v.norm, norm);
}

// --- matrix products, which are never taken apart

template <>
Plan plan<row_matmul>(const Context& context, const void* parameters) {
  if constexpr (terms == 1)
    if (asked_for(context)) return matmul_plan(context, *static_cast<const MatMul*>(parameters));
  return below(row_matmul).plan(context, parameters);
}
template <>
void run<row_matmul>(const Context& context, const void* parameters, void* const* o) {
  if constexpr (terms == 1)
    if (asked_for(context))
      return matmul(context, *static_cast<const MatMul*>(parameters), static_cast<const storage*>(o[0]), static_cast<const storage*>(o[1]),
                    static_cast<const real*>(o[2]), static_cast<storage*>(o[3]), o[4]);
  below(row_matmul).run(context, parameters, o);
}

}  // namespace

// What residual.cpp and normalized.cpp ask for, where it is this table's turn
const ConvAlgorithm& forward_algorithm(const Context& context, const Conv2d& v) { return *chosen(row_conv2d_forward, context, v); }
const ConvAlgorithm& backward_input_algorithm(const Context& context, const Conv2d& v) {
  return *chosen(row_conv2d_backward_input, context, v);
}
const ConvAlgorithm& backward_weight_algorithm(const Context& context, const Conv2d& v) {
  return *chosen(row_conv2d_backward_weight, context, v);
}
Plan conv2d_backward_weight_plan(const Context& context, const Conv2d& v) { return plan<row_conv2d_backward_weight>(context, &v); }
Plan batchnorm_inference_plan(const Context& context, const BatchNorm& v) { return below(row_batchnorm_inference).plan(context, &v); }
void batchnorm_inference(const Context& context, const BatchNorm& v, const T* x, const R* gamma, const R* beta, const T* residual,
                         const R* running_mean, const R* running_var, T* y, R* mean, R* rstd, void* scratch) {
  const void* const o[] = {x, gamma, beta, residual, running_mean, running_var, y, mean, rstd, scratch};
  below(row_batchnorm_inference).run(context, &v, const_cast<void* const*>(o));
}
Plan conv2d_forward_plan(const Context& context, const Conv2d& v) { return plan<row_conv2d_forward>(context, &v); }
Plan conv2d_backward_input_plan(const Context& context, const Conv2d& v) { return plan<row_conv2d_backward_input>(context, &v); }

extern const Table table;
const Table table = {NAME(FASTNN_TABLE),
                     {
#define KERNEL(name, Struct, operands) {run<row_##name>, nullptr},
#define PLANNED(name, Struct, operands) {run<row_##name>, plan<row_##name>},
#include "kernels.def"
#include "undef_kernels.h"
                     }};

}  // namespace FASTNN_TABLE
}  // namespace fastnn
