// What every struct of parameters is made of. Nothing here may have an inline body: see kernels.h.
#pragma once
#include <cstdint>

namespace fastnn {

constexpr int max_rank = 8;

struct Shape {
  int rank = 0;
  int64_t d[max_rank] = {};
};

struct Pair {  // (vertical, horizontal)
  int64_t h, w;
};

enum class Activation : int { none, relu, silu, gelu };

// What a PLANNED kernel announces before it runs. The algorithm is a function of (shape, instruction set, precision) alone.
struct Plan {
  const char* algorithm;
  int64_t scratch_bytes;
  int packed_operand = -1;  // whose packed form the scratch holds, where it can stay there for later calls: see Packing
};

// A list operand. Element i has size[i] elements at data[i]; 64-byte alignment is not promised.
template <class E>
struct List {
  E* const* data;
  const int64_t* size;
  int64_t count;
};

}  // namespace fastnn
