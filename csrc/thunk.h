// The one way to a kernel. It checks every operand against the row of kernels.def, allocates outputs and scratch, looks in the table
// and runs; so the profiler, the finite check and the memory checks are written once and serve every kernel.
#pragma once
#include <stdexcept>
#include <string>
#include <vector>

#include "array.h"
#include "table.h"

namespace fastnn {

enum class Direction { in, out, inout };
enum class Type { T, R, f32, f64, bf16, i64, u8, b8 };

struct Operand {
  const char* name;
  Direction direction;
  Type type;
  bool optional, list;
  Shape (*shape)(const void* parameters);
};

struct RowInfo {
  const char* name;
  const char* parameters;  // name of the struct
  std::vector<Operand> operands;
  bool planned;
};

const RowInfo& row_info(Row);
Row row_named(const std::string&);  // throws std::invalid_argument
const char* name(Direction);
const char* name(Type);

// What is passed for an operand that is not an output: an array, which the caller keeps, several (list operands), or none.
struct Argument {
  const Array* one = nullptr;
  std::vector<Array> list;
  bool absent = false;
  const Array* begin() const { return one ? one : list.data(); }
  const Array* end() const { return one ? one + 1 : list.data() + list.size(); }
  size_t size() const { return size_t(end() - begin()); }
};

struct TypeMismatch : std::runtime_error {  // becomes Python's TypeError
  using std::runtime_error::runtime_error;
};
struct NotFinite : std::runtime_error {  // becomes FloatingPointError
  using std::runtime_error::runtime_error;
};

std::vector<Array> call(Row, const void* parameters, const std::vector<Argument>& arguments);  // returns the outputs
Plan plan(Row, const void* parameters, Dtype storage, Device&);

struct LastCall {
  const char* row = "";
  const char* device = "";
  const char* table = "";
  const char* algorithm = "";
  uint64_t workers = 0;      // bit w: worker w ran a block
  bool past_caches = false;  // whether results were written past the caches of the CPU
};
LastCall last_call();  // of this thread

void set_memory_checks(bool);  // poison outputs and scratch before each call, check sentinels behind them after it
void set_finite_checks(bool);  // raise NotFinite when an output holds Inf or NaN
bool instrumented();           // whether one of these is on

}  // namespace fastnn
