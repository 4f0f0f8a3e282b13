// What the switches of thunk.h look at around a kernel call: poison in what it writes, a pattern behind it, values that are not finite.
#pragma once
#include "thunk.h"

namespace fastnn {

void guard(Device&, void* data, size_t bytes);  // the pattern, in the arena's slack behind the bytes
void arm(Device&, void* data, size_t bytes);    // poison, and the pattern behind it
void verify(Device&, const char* row, const char* operand, const void* data, size_t bytes);  // throws when the pattern is broken
void check_finite(const RowInfo&, const Operand&, const Array& written);                     // throws NotFinite

}  // namespace fastnn
