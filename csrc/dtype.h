// The types of array elements.
#pragma once
#include <cstddef>
#include <string>

namespace fastnn {

enum class Dtype : int { float32, float64, uint8, int64, boolean, bfloat16 };

const char* name(Dtype);
size_t item_size(Dtype);
Dtype dtype_named(const std::string&);  // throws std::invalid_argument

}  // namespace fastnn
