// Winograd for 3 x 3 windows of stride 2: see winograd_strided.cpp.
#pragma once
#include "algorithm.h"

namespace fastnn::FASTNN_TABLE {

extern const ConvAlgorithm winograd_strided_forward, winograd_strided_backward_input;

}  // namespace fastnn::FASTNN_TABLE
