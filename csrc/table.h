// A table of kernels with their types erased: what a backend is. Row order is that of kernels.def.
#pragma once
#include "context.h"
#include "kernels.h"

namespace fastnn {

enum Row : int {
#define KERNEL(name, Struct, operands) row_##name,
#define PLANNED(name, Struct, operands) row_##name,
#define IN(name, shape, type)
#define OUT(name, shape, type)
#define INOUT(name, shape, type)
#define MAYBE_IN(name, shape, type)
#define MAYBE_INOUT(name, shape, type)
#define LIST_IN(name, sizes, type)
#define LIST_INOUT(name, sizes, type)
#include "kernels.def"
#include "undef_kernels.h"
  row_count
};

struct Kernel {
  // operands in the order of the row; a list operand is a List*; a PLANNED kernel's scratch stands last
  void (*run)(const Context&, const void* parameters, void* const* operands);
  Plan (*plan)(const Context&, const void* parameters);  // null when the kernel needs no scratch
};

struct Table {
  const char* name;  // "avx512_f32"
  Kernel kernels[row_count];
};

}  // namespace fastnn
