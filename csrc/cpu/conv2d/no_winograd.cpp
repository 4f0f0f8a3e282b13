// What stands for Winograd's algorithms in float64, where they are not compiled: nobody waits for their speed there.
#include "winograd_strided.h"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr ConvAlgorithm none = {"", [](const Conv2d&) { return false; }, nullptr, nullptr};

}  // namespace

const ConvAlgorithm winograd4_forward = none, winograd4_backward_input = none, winograd4_backward_weight = none;
const ConvAlgorithm winograd2_forward = none, winograd2_backward_input = none, winograd2_backward_weight = none;
const ConvAlgorithm winograd4_narrow_forward = none, winograd4_narrow_backward_input = none, winograd4_narrow_backward_weight = none;
const ConvAlgorithm winograd_strided_forward = none, winograd_strided_backward_input = none, winograd_strided_backward_weight = none;
const ConvAlgorithm winograd_first_forward = none, winograd_first_backward_weight = none;

}  // namespace fastnn::FASTNN_TABLE
