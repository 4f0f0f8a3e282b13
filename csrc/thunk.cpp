#include "thunk.h"

#include <atomic>
#include <cstring>

#include "profiler.h"
#include "recording.h"
#include "sentinels.h"
#include "threads.h"

namespace fastnn {
namespace {

// --- the rows, from kernels.def

#define OPERAND(name, shape, type, direction, optional, list) \
  Operand{#name, Direction::direction, Type::type, optional, list, [](const void* p) { return static_cast<const S*>(p)->shape(); }},
#define IN(name, shape, type) OPERAND(name, shape, type, in, false, false)
#define OUT(name, shape, type) OPERAND(name, shape, type, out, false, false)
#define INOUT(name, shape, type) OPERAND(name, shape, type, inout, false, false)
#define MAYBE_IN(name, shape, type) OPERAND(name, shape, type, in, true, false)
#define MAYBE_INOUT(name, shape, type) OPERAND(name, shape, type, inout, true, false)
#define LIST_IN(name, sizes, type) OPERAND(name, sizes, type, in, false, true)
#define LIST_INOUT(name, sizes, type) OPERAND(name, sizes, type, inout, false, true)
#define KERNEL(name, Struct, operands)          \
  RowInfo row_info_##name() {                   \
    using S = Struct;                           \
    return {#name, #Struct, {operands}, false}; \
  }
#define PLANNED(name, Struct, operands)        \
  RowInfo row_info_##name() {                  \
    using S = Struct;                          \
    return {#name, #Struct, {operands}, true}; \
  }
#include "kernels.def"
#undef KERNEL
#undef PLANNED

const std::vector<RowInfo>& rows() {
  static const std::vector<RowInfo> all = {
#define KERNEL(name, Struct, operands) row_info_##name(),
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"
  };
  return all;
}

// --- settings

struct Settings {
  std::atomic<bool> memory_checks{false}, finite_checks{false};
};
Settings& settings() {
  static auto* s = new Settings;
  return *s;
}
thread_local LastCall last;

// --- checks

Dtype fixed_type(Type type, Dtype storage) {
  switch (type) {
    case Type::f32: return Dtype::float32;
    case Type::f64: return Dtype::float64;
    case Type::bf16: return Dtype::bfloat16;
    case Type::i64: return Dtype::int64;
    case Type::u8: return Dtype::uint8;
    case Type::b8: return Dtype::boolean;
    case Type::R: return storage == Dtype::bfloat16 ? Dtype::float32 : storage;
    default: return storage;
  }
}

// The row's storage type is that of its first operand of type T or R; rows without one run from the float32 table.
Dtype storage_type(const RowInfo& row, const std::vector<Argument>& arguments) {
  size_t next = 0;
  for (const Operand& operand : row.operands) {
    if (operand.direction == Direction::out) continue;
    const Argument& argument = arguments[next++];
    if (operand.type != Type::T && operand.type != Type::R) continue;
    if (!argument.size()) continue;
    const Dtype dtype = argument.begin()->dtype;
    if (dtype != Dtype::float32 && dtype != Dtype::float64 && !(dtype == Dtype::bfloat16 && operand.type == Type::T))
      throw TypeMismatch(std::string(row.name) + ": " + operand.name + " has dtype " + name(dtype) + "; expected float32 or float64");
    return dtype;
  }
  return Dtype::float32;
}

// A row runs where its arrays lie: all on one device. A row without arrays runs on the CPU.
Device& device_of(const RowInfo& row, const std::vector<Argument>& arguments) {
  const Array* first = nullptr;
  const char* first_name = nullptr;
  size_t next = 0;
  for (const Operand& operand : row.operands) {
    if (operand.direction == Direction::out) continue;
    for (const Array& array : arguments[next++]) {
      if (!first) first = &array, first_name = operand.name;
      if (&array.device() != &first->device())
        throw std::invalid_argument(std::string(row.name) + ": " + operand.name + " lies on " + array.device().name + ", " + first_name +
                                    " on " + first->device().name + "; move one of them with .to('" + first->device().name + "')");
    }
  }
  return first ? first->device() : cpu();
}

void check(const RowInfo& row, const Operand& operand, const Array& array, const Shape& shape, Dtype dtype) {
  refuse_imagined(array);
  if (array.dtype != dtype)
    throw TypeMismatch(std::string(row.name) + ": " + operand.name + " has dtype " + name(array.dtype) + "; expected " + name(dtype));
  if (!operand.list && !(array.shape == shape))
    throw std::invalid_argument(std::string(row.name) + ": " + operand.name + " has shape " + text(array.shape) + "; expected " +
                                text(shape));
}

// Pointers and lengths behind a List operand; the kernel sees them as List<type>.
struct ListStorage {
  std::vector<void*> data;
  std::vector<int64_t> size;
  List<void> list;
};

struct Scratch {
  Device& device;
  void* data = nullptr;
  size_t bytes = 0;
  void* stream = nullptr;
  explicit Scratch(Device& d) : device(d), stream(d.stream()) {}
  Scratch(const Scratch&) = delete;
  void allocate(size_t n) { data = n ? device.arena.allocate(n, stream) : nullptr, bytes = n; }
  ~Scratch() {
    if (data) device.arena.release(data, bytes, stream);
  }
};

// One call of a kernel, from checked operands to outputs.
class Call {
 public:
  Call(Row row, const void* parameters, const std::vector<Argument>& arguments)
      : row_(row),
        info_(row_info(row)),
        parameters_(parameters),
        arguments_(arguments),
        device_(device_of(info_, arguments)),
        storage_(storage_type(info_, arguments)),
        scratch_(device_) {
    const size_t n = info_.operands.size();
    outputs_.reserve(n), pointers_.reserve(n + 1);
    size_t next = 0;
    for (const Operand& operand : info_.operands) {
      const Shape shape = operand.shape(parameters);
      pointers_.push_back(operand.direction == Direction::out ? allocate(operand, shape) : take(operand, arguments[next++], shape));
    }
  }

  std::vector<Array> run() {
    const Table& table = device_.table(storage_);
    static const Kernel idle = {[](const Context&, const void*, void* const*) {}, nullptr};
    const Kernel& kernel = table.kernels[row_];
    const Kernel& running = writes_ ? kernel : idle;  // results without elements: kernels need not think of them
    Recording* const record = recording();
    Context context = record ? record->context(device_) : device_.context();
    const Plan planned = kernel.plan ? kernel.plan(context, parameters_) : Plan{"", 0};
    if (record) {  // nothing is computed
      record->call(row_, running, device_, parameters_, arguments_, outputs_, planned, bytes_);
      count_writes();
      return std::move(outputs_);
    }
    scratch_.allocate(size_t(planned.scratch_bytes));
    pointers_.push_back(scratch_.data);
    const bool checked = settings().memory_checks;
    const Written written = {device_, info_, arguments_, outputs_, scratch_.data, scratch_.bytes};
    if (checked) written.arm(), threads::clear_workers_seen();
    bool went_past = false;
    context.went_past = &went_past;
    {
      FloatState state;
      const profiler::Watch watch(device_, {row_, parameters_, planned.algorithm, bytes_, profiler::scope()});
      running.run(context, parameters_, pointers_.data());
    }
    device_.check_launches();
    last = {info_.name, device_.name.c_str(), table.name, planned.algorithm, checked ? threads::workers_seen() : 0, went_past};
    count_writes();
    if (checked) written.verify();
    if (settings().finite_checks) written.check_finite();
    return std::move(outputs_);
  }

 private:
  void* allocate(const Operand& operand, const Shape& shape) {
    const bool gradient = std::strcmp(operand.name, "dw") == 0;  // stays until the next step
    const auto make = recording() ? imagined : gradient ? Array::lasting : Array::empty;
    outputs_.push_back(make(shape, fixed_type(operand.type, storage_), device_));
    bytes_ += int64_t(outputs_.back().bytes());
    writes_ |= outputs_.back().bytes() > 0;
    return outputs_.back().data();
  }

  void* take(const Operand& operand, const Argument& argument, const Shape& shape) {
    if (argument.absent) {
      if (!operand.optional) throw TypeMismatch(std::string(info_.name) + ": " + operand.name + " must be an array, got None");
      return nullptr;
    }
    for (const Array& array : argument) {
      check(info_, operand, array, shape, fixed_type(operand.type, storage_));
      bytes_ += int64_t(array.bytes());
      writes_ |= operand.direction == Direction::inout && array.bytes() > 0;
    }
    return operand.list ? take_list(operand, argument, shape) : argument.one->data();
  }

  // Every list of a row holds arrays of the same shapes as the row's first list.
  void* take_list(const Operand& operand, const Argument& argument, const Shape& sizes) {
    const size_t length = size_t(sizes.d[0]);
    if (argument.size() != length)
      throw std::invalid_argument(std::string(info_.name) + ": " + operand.name + " has " + std::to_string(argument.size()) +
                                  " arrays; expected " + std::to_string(length));
    if (!first_list_) first_list_ = &argument, lists_.reserve(info_.operands.size());  // pointers into it stay
    ListStorage& list = lists_.emplace_back();
    for (size_t i = 0; i < length; i++) {
      const Array &array = argument.list[i], &first = first_list_->list[i];
      if (!(array.shape == first.shape))
        throw std::invalid_argument(std::string(info_.name) + ": " + operand.name + "[" + std::to_string(i) + "] has shape " +
                                    text(array.shape) + "; expected " + text(first.shape));
      if (sizes.rank == 2 && array.count() != sizes.d[1])
        throw std::invalid_argument(std::string(info_.name) + ": " + operand.name + "[" + std::to_string(i) + "] has shape " +
                                    text(array.shape) + "; expected " + std::to_string(sizes.d[1]) + " elements");
      list.data.push_back(array.data());
      list.size.push_back(array.count());
    }
    list.list = {list.data.data(), list.size.data(), int64_t(length)};
    return &list.list;
  }

  void count_writes() {
    size_t next = 0;
    for (const Operand& operand : info_.operands) {
      if (operand.direction == Direction::out) continue;
      for (const Array& array : arguments_[next++]) {
        if (operand.direction == Direction::inout) array.storage->version++;
        array.storage->used_on(scratch_.stream);
      }
    }
  }

  const Row row_;
  const RowInfo& info_;
  const void* parameters_;
  const std::vector<Argument>& arguments_;
  Device& device_;
  const Dtype storage_;
  std::vector<Array> outputs_;
  std::vector<ListStorage> lists_;
  std::vector<void*> pointers_;  // in row order, scratch last
  Scratch scratch_;
  const Argument* first_list_ = nullptr;
  int64_t bytes_ = 0;
  bool writes_ = false;  // anything
};

}  // namespace

const RowInfo& row_info(Row row) { return rows()[row]; }

Row row_named(const std::string& wanted) {
  for (int i = 0; i < row_count; i++)
    if (wanted == rows()[i].name) return Row(i);
  throw std::invalid_argument("no kernel is named '" + wanted + "'");
}

const char* name(Direction d) { return d == Direction::in ? "in" : d == Direction::out ? "out" : "inout"; }

const char* name(Type type) {
  const char* names[] = {"T", "R", "f32", "f64", "bf16", "i64", "u8", "b8"};
  return names[int(type)];
}

Plan plan(Row row, const void* parameters, Dtype storage, Device& device) {
  const Kernel& kernel = device.table(storage).kernels[row];
  return kernel.plan ? kernel.plan(device.context(), parameters) : Plan{"", 0};
}

std::vector<Array> call(Row row, const void* parameters, const std::vector<Argument>& arguments) {
  const RowInfo& info = row_info(row);
  size_t expected = 0;
  for (const Operand& operand : info.operands) expected += operand.direction != Direction::out;
  if (arguments.size() != expected)
    throw TypeMismatch(std::string(info.name) + " takes " + std::to_string(expected) + " arrays, got " + std::to_string(arguments.size()));
  return Call(row, parameters, arguments).run();
}

LastCall last_call() { return last; }

void set_memory_checks(bool on) { settings().memory_checks = on; }
void set_finite_checks(bool on) { settings().finite_checks = on; }
bool instrumented() { return settings().memory_checks || settings().finite_checks; }

}  // namespace fastnn
