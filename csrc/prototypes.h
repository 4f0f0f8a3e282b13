// The prototype of every kernel of kernels.def, in the namespace of the table being built (FASTNN_TABLE, e.g. avx512_f32, cuda_f32).
// FASTNN_REAL, float or double, is the type computed in; FASTNN_STORAGE how activations lie in memory, when that is another.
#pragma once
#include "bfloat16.h"
#include "context.h"
#include "kernels.h"

namespace fastnn::FASTNN_TABLE {

#if defined(FASTNN_STORAGE)
#define FASTNN_NARROW_STORAGE 1
#else
#define FASTNN_STORAGE FASTNN_REAL
#endif
using real = FASTNN_REAL;
using storage = FASTNN_STORAGE;

using T = storage;
using R = real;
using f32 = float;
using f64 = double;
using bf16 = bfloat16;
using i64 = int64_t;
using u8 = uint8_t;
using b8 = bool;

// hidden also as declarations: a row that nobody implements then fails at link time, not at the first call
#pragma GCC visibility push(hidden)
#define IN(name, shape, type) , const type* name
#define OUT(name, shape, type) , type* name
#define INOUT(name, shape, type) , type* name
#define MAYBE_IN(name, shape, type) , const type* name
#define MAYBE_INOUT(name, shape, type) , type* name
#define LIST_IN(name, sizes, type) , const List<const type>& name
#define LIST_INOUT(name, sizes, type) , const List<type>& name
#define KERNEL(name, Struct, operands) void name(const Context&, const Struct& operands);
#define PLANNED(name, Struct, operands)                             \
  void name(const Context&, const Struct& operands, void* scratch); \
  Plan name##_plan(const Context&, const Struct&);
#include "kernels.def"
#include "undef_kernels.h"
#pragma GCC visibility pop

}  // namespace fastnn::FASTNN_TABLE
