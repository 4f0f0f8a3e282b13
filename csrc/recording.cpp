#include "recording.h"

#include <atomic>
#include <cstring>
#include <type_traits>

#include "isa.h"
#include "profiler.h"
#include "threads.h"

namespace fastnn {
namespace {

thread_local Recording* active = nullptr;

// --- structs are compared byte by byte, so what lies between their members must not differ by chance

template <class S>
void clear_padding([[maybe_unused]] void* parameters) {
  static_assert(std::is_trivially_copyable<S>::value, "structs of parameters are copied");
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(static_cast<S*>(parameters));
#endif
#endif
}

struct Layout {
  size_t size;
  void (*clear)(void*);
};

const Layout& layout(Row row) {
  static const Layout all[] = {
#define KERNEL(name, Struct, operands) {sizeof(Struct), &clear_padding<Struct>},
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"
  };
  return all[row];
}

bool equal_bytes(const Array& a, const Array& b) {
  if (!(a.shape == b.shape) || a.dtype != b.dtype || &a.device() != &b.device()) return false;
  const Array left = a.device().is_cpu() ? a : a.to(cpu()), right = b.device().is_cpu() ? b : b.to(cpu());
  return std::memcmp(left.data(), right.data(), left.bytes()) == 0;
}

}  // namespace

Recording* recording() { return active; }

void refuse_while_recording(const char* what) {
  if (active) throw CaptureRefused(std::string(what) + " while a step is recorded");
}

Array imagined(const Shape& shape, Dtype dtype, Device& device) {
  static std::atomic<uintptr_t> next{uintptr_t{1} << 56};  // not an address that any processor has
  Array array{shape, dtype, nullptr};
  const size_t bytes = bytes_of(shape, dtype, device);
  array.storage = std::make_shared<Storage>(device, reinterpret_cast<void*>(next.fetch_add(bytes + 64)), bytes, [] {});
  array.storage->imagined = true;
  return array;
}

void refuse_imagined(const Array& array) {
  if (!active) refuse_without_bytes(array);
}

void refuse_without_bytes(const Array& array) {
  if (array.storage->imagined)
    throw CaptureRefused("an array of shape " + text(array.shape) +
                         " was made while a captured step was recorded, and nothing was computed then: let the step return it; one in "
                         "which gradients would pile up begins with zero_grad()");
}

void increment(const Array& counter) {
  if (counter.dtype != Dtype::int64 || !counter.device().is_cpu() || counter.count() != 1)
    throw std::invalid_argument("a counter is one int64 on the CPU, got " + text(counter.shape) + " of " + name(counter.dtype));
  refuse_imagined(counter);
  counter.storage->version++;
  if (active) return active->count(counter);
  ++*static_cast<int64_t*>(counter.data());
}

void LabelCheck::operator()(const Array& labels) const {
  const Array here = labels.device().is_cpu() ? labels : labels.to(cpu());
  const auto* label = static_cast<const int64_t*>(here.data());
  for (int64_t i = 0; i < here.count(); i++) {
    if ((label[i] >= 0 && label[i] < classes) || (ignored && label[i] == *ignored)) continue;
    Shape place = shape;
    for (int64_t d = shape.rank, left = i; d-- > 0; left /= shape.d[d]) place.d[d] = left % shape.d[d];
    throw std::invalid_argument(what + ": label " + std::to_string(label[i]) + " of sample " +
                                (shape.rank == 1 ? std::to_string(i) : text(place)) + " lies outside of [0, " + std::to_string(classes) +
                                "), the classes of the logits");
  }
}

Environment Environment::now() {
  return {isa::table(Dtype::float32), threads::count(), fastnn::precision(), fastnn::winograd(), fastnn::own_bytes()};
}

bool Environment::operator==(const Environment& o) const {
  return table == o.table && workers == o.workers && precision == o.precision && winograd == o.winograd && own_bytes == o.own_bytes;
}

// --- writing the list

Recording::Recording(const std::vector<Array>& arguments, bool keeps_packed)
    : environment(Environment::now()), keeps_packed_(keeps_packed) {
  for (const Array& array : arguments) {
    Block& block = blocks_[size_t(block_of(array))];
    block.origin = Origin::argument;
    block.number = int(&array - arguments.data());
  }
  for (const Array& array : arguments)
    arguments_.push_back({array.shape, array.dtype, &array.device(), blocks_[size_t(block_of(array))].number});
}

Recording::~Recording() { stop(); }

void Recording::start() {
  if (active && active != this) throw CaptureRefused("a captured step cannot be recorded while another one is");
  active = this;
}

void Recording::stop() {
  if (active == this) active = nullptr;
}

void Recording::settle() {
  for (Block& block : blocks_)
    if (block.origin == Origin::argument) block.array = {};
}

int Recording::block_of(const Array& array) {
  if (const auto at = known_.find(array.storage.get()); at != known_.end()) return at->second;
  refuse_without_bytes(array);  // of another recording
  const int block = int(blocks_.size());
  blocks_.push_back({Origin::outside, 0, &array.device(), array.storage->bytes, false, -1, -1, array.storage, array});
  known_[array.storage.get()] = block;
  return block;
}

int Recording::made(const Array& array) {
  const int block = int(blocks_.size()), entry = int(entries_.size());
  known_[array.storage.get()] = block;
  blocks_.push_back({Origin::made, made_++, &array.device(), array.storage->bytes, false, entry, entry, array.storage, {}});
  return block;
}

void Recording::use(int block, int entry) {
  Block& b = blocks_[size_t(block)];
  if (b.first < 0) b.first = entry;
  b.last = entry;
}

void Recording::write(int block) {
  Block& b = blocks_[size_t(block)];
  if (b.origin == Origin::argument)
    throw CaptureRefused("argument " + std::to_string(b.number) +
                         " of the step is written in place, and a replay only reads its arguments: let the step write to a copy");
  b.written = true;
}

void Recording::call(Row row, const Kernel& kernel, Device& device, const void* parameters, const std::vector<Argument>& arguments,
                     const std::vector<Array>& outputs, const Plan& plan, int64_t touched) {
  Entry entry{Kind::kernel, row, &kernel, &device, {}, {}, size_t(plan.scratch_bytes), plan.packed_operand, {}, {}};
  entry.algorithm = plan.algorithm, entry.bytes = touched, entry.scope = profiler::scope();
  const auto* bytes = static_cast<const unsigned char*>(parameters);
  entry.parameters.assign(bytes, bytes + layout(row).size);
  layout(row).clear(entry.parameters.data());
  size_t in = 0, out = 0;
  for (const Operand& operand : row_info(row).operands) {
    Part part{operand.list, {}, {}};
    if (operand.direction == Direction::out) {
      part.blocks.push_back(made(outputs[out++]));
    } else {
      for (const Array& array : arguments[in++]) {
        const int block = block_of(array);
        use(block, int(entries_.size()));
        if (operand.direction == Direction::inout) write(block);
        part.blocks.push_back(block);
        part.sizes.push_back(array.count());
      }
    }
    entry.operands.push_back(std::move(part));
  }
  entries_.push_back(std::move(entry));
}

Context Recording::context(Device& device) const {
  Context context = device.context();  // what another thread has set meanwhile comes with the next recording: scratch is planned for these
  context.workers = environment.workers, context.precision = environment.precision, context.winograd = environment.winograd;
  if (device.is_cpu()) context.own_bytes = environment.own_bytes;
  if (keeps_packed_) context.packing = Packing::keep;
  return context;
}

bool Recording::keeps_packed(const Entry& entry) const {
  if (!keeps_packed_ || entry.packed < 0) return false;
  const Block& weights = blocks_[size_t(entry.operands[size_t(entry.packed)].blocks[0])];
  return (weights.origin == Origin::outside || weights.origin == Origin::constant) && !weights.written;
}

void Recording::copy(const Array& from, const Array& to) {
  Entry entry{Kind::copy, row_count, nullptr, &to.device(), {}, {}, 0, -1, {}, {}};
  const int source = block_of(from);
  use(source, int(entries_.size()));
  entry.operands = {{false, {source}, {int64_t(from.bytes())}}, {false, {made(to)}, {}}};
  entries_.push_back(std::move(entry));
}

void Recording::count(const Array& counter) {
  const int block = block_of(counter);
  use(block, int(entries_.size()));
  write(block);
  entries_.push_back({Kind::count, row_count, nullptr, &cpu(), {}, {{false, {block}, {}}}, 0, -1, {}, {}});
}

void Recording::check(const LabelCheck& check, const Array& labels) {
  const int block = block_of(labels);
  if (blocks_[size_t(block)].origin == Origin::made)
    throw CaptureRefused(check.what + ": the labels are made by the step, and the host looks at labels; make them before it");
  use(block, int(entries_.size()));
  entries_.push_back({Kind::labels, row_count, nullptr, &cpu(), {}, {{false, {block}, {labels.count()}}}, 0, -1, check, {}});
}

void Recording::constant(const Array& array) { blocks_[size_t(block_of(array))].origin = Origin::constant; }

void Recording::empty(const Array& array) { made(array); }

int Recording::look(const std::vector<Array>& arrays, Look when) {
  Entry entry{Kind::look, row_count, nullptr, &cpu(), {}, {{true, {}, {}}}, 0, -1, {}, {}, when};
  for (const Array& array : arrays) {
    const int block = block_of(array);
    use(block, int(entries_.size()));
    entry.operands[0].blocks.push_back(block);
    entry.looked.push_back({array.shape, array.dtype, &array.device()});
    entry.device = &array.device();
  }
  entry.operands[0].sizes.resize(arrays.size());
  entries_.push_back(std::move(entry));
  return looks_++;
}

// --- comparing two of them

bool Recording::same(int block, const Recording& first, int other) const {
  const Block &a = blocks_[size_t(block)], &b = first.blocks_[size_t(other)];
  if (a.origin == Origin::made || b.origin == Origin::made) return a.origin == b.origin && a.number == b.number;
  if (a.origin == Origin::argument || b.origin == Origin::argument) return a.origin == b.origin && a.number == b.number;
  if (a.array.storage == b.array.storage) return true;
  return a.origin == Origin::constant && b.origin == Origin::constant && !a.written && !b.written && equal_bytes(a.array, b.array);
}

std::string Recording::name(int block) const {
  const Block& b = blocks_[size_t(block)];
  switch (b.origin) {
    case Origin::made: return "a result of entry " + std::to_string(b.first);
    case Origin::argument: return "argument " + std::to_string(b.number);
    case Origin::constant: return "a constant of shape " + text(b.array.shape);
    default: return "an array of shape " + text(b.array.shape) + " made outside of the step";
  }
}

std::vector<std::string> Recording::names() const {
  std::vector<std::string> all;
  for (const Entry& entry : entries_) {
    const char* others[] = {"", "copy to another array", "count", "look at labels", "look"};
    all.push_back(entry.kind == Kind::kernel ? row_info(entry.row).name : others[int(entry.kind)]);
  }
  return all;
}

std::string Recording::difference(const Recording& first) const {
  const std::vector<std::string> mine = names(), theirs = first.names();
  for (size_t i = 0; i < mine.size() || i < theirs.size(); i++) {
    const std::string here = "entry " + std::to_string(i) + " of the list";
    if (i >= theirs.size() || i >= mine.size() || mine[i] != theirs[i])
      return here + " is " + (i < theirs.size() ? theirs[i] : "missing") + " in the first step and " +
             (i < mine.size() ? mine[i] : "missing") + " in the second";
    const Entry &a = entries_[i], &b = first.entries_[i];
    if (a.kernel != b.kernel || a.device != b.device || a.scratch != b.scratch)
      return here + ", " + mine[i] + ", is another kernel in the second step";
    if (a.parameters != b.parameters)
      return here + ", " + mine[i] +
             ", has other parameters in the second step (a shape, a rate, a draw of a generator that is not the thread's)";
    for (size_t o = 0; o < a.operands.size(); o++) {
      const Part &p = a.operands[o], &q = b.operands[o];
      const std::string operand = a.kind == Kind::kernel ? row_info(a.row).operands[o].name : "operand";
      if (p.blocks.size() != q.blocks.size() || p.sizes != q.sizes)
        return here + ", " + mine[i] + ", has another number of arrays as " + operand + " in the second step";
      for (size_t k = 0; k < p.blocks.size(); k++)
        if (!same(p.blocks[k], first, q.blocks[k]))
          return here + ", " + mine[i] + ", has as " + operand + " " + first.name(q.blocks[k]) + " in the first step and " +
                 name(p.blocks[k]) + " in the second, another array";
    }
  }
  return "";
}

}  // namespace fastnn
