// Picks the table of kernels: by instruction set once, by storage type at each call.
#pragma once
#include <string>
#include <vector>

#include "array.h"
#include "table.h"

namespace fastnn::device {

const Table& table(Dtype storage);  // float32: the chosen instruction set's; float64: the portable one
std::string isa();                  // "avx512"
std::string isa_reason();
std::vector<std::string> isas();   // those this processor can run, plainest first
void set_isa(const std::string&);  // throws std::invalid_argument when unknown or unsupported

}  // namespace fastnn::device
