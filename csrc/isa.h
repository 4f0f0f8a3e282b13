// Picks the table of CPU kernels: by instruction set once, by storage type at each call.
#pragma once
#include <string>
#include <vector>

#include "dtype.h"
#include "table.h"

namespace fastnn::isa {

const Table* table(Dtype storage);  // float32, bfloat16: the chosen instruction set's, or null; float64: the portable one
std::string name();                 // "avx512"
std::string reason();
std::vector<std::string> all();                      // those this processor can run, plainest first
std::vector<std::string> with_table(Dtype storage);  // those of them that have a table of their own for it
void set(const std::string&);                        // throws std::invalid_argument when unknown or unsupported

}  // namespace fastnn::isa
