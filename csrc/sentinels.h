// What the switches of thunk.h look at around a kernel call: poison in what it writes, a pattern behind it, values that are not finite.
#pragma once
#include "thunk.h"

namespace fastnn {

// What one call writes.
struct Written {
  Device& device;
  const RowInfo& row;
  const std::vector<Argument>& arguments;  // some of them in place
  const std::vector<Array>& outputs;
  void* scratch;  // may be null
  size_t scratch_bytes;

  void arm() const;           // poison, and the pattern in the arena's slack behind it; what is written in place keeps its values
  void verify() const;        // throws when a pattern is broken
  void check_finite() const;  // throws NotFinite
};

}  // namespace fastnn
