// Winograd for windows of stride 2: 3 x 3 (winograd_phases.h), and 7 x 7 of three channels (winograd_first.h).
#pragma once
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {

extern const ConvAlgorithm winograd_strided_forward, winograd_strided_backward_input, winograd_strided_backward_weight;
extern const ConvAlgorithm winograd_first_forward, winograd_first_backward_weight;

}  // namespace fastnn::FASTNN_TABLE
