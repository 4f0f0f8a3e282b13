// First layers by whole windows (whole_windows.h): which, and their algorithms (first_layers.cpp, cpu/conv2d/direct_backward_weight.cpp)
#pragma once
#include "../cpu/conv2d/algorithm.h"

namespace fastnn::FASTNN_TABLE {

constexpr int64_t most_window_portions = 16;  // of so many numbers as a plane has, or fewer
INLINE bool of_whole_windows(const Conv2d& v) {
  return v.G == 1 && v.C < 16 && v.dilation_h == 1 && v.dilation_w == 1 && v.R * ((v.S * v.C + 15) / 16) <= most_window_portions;
}
extern const ConvAlgorithm direct_windows_forward, direct_windows_backward_weight;

}  // namespace fastnn::FASTNN_TABLE
