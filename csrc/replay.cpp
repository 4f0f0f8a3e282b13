#include "replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "profiler.h"
#include "threads.h"

namespace fastnn {
namespace {

using Kind = Recording::Kind;
using Origin = Recording::Origin;

size_t alignment_of(const Device& device) { return device.is_cpu() ? 64 : 256; }

struct StreamApart {  // this thread's, while it lives
  Device& device;
  void *before, *stream;
  explicit StreamApart(Device& d) : device(d), before(d.stream()), stream(d.take_stream()) { device.set_stream(stream); }
  StreamApart(const StreamApart&) = delete;
  ~StreamApart() {
    device.set_stream(before);
    device.give_back_stream(stream);
  }
};

size_t aligned(size_t bytes, size_t alignment) { return (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment; }

size_t most_alive(const std::vector<Tenant>& tenants, size_t alignment) {
  std::map<int, int64_t> change;
  for (const Tenant& t : tenants)
    change[t.first] += int64_t(aligned(t.bytes, alignment)), change[t.last + 1] -= int64_t(aligned(t.bytes, alignment));
  int64_t alive = 0, most = 0;
  for (const auto& [time, bytes] : change) most = std::max(most, alive += bytes);
  return size_t(most);
}

}  // namespace

size_t place_all(std::vector<Tenant>& tenants, size_t alignment) {
  std::vector<Tenant*> order, placed;  // placed: by offset
  for (Tenant& t : tenants) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [](const Tenant* a, const Tenant* b) { return a->bytes > b->bytes; });
  size_t total = 0;
  for (Tenant* t : order) {
    const size_t bytes = aligned(t->bytes, alignment);
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (const Tenant* other : placed) {
      if (other->last < t->first || t->last < other->first) continue;
      if (other->offset >= end + bytes && other->offset - end < best_gap) best = end, best_gap = other->offset - end;
      end = std::max(end, other->offset + aligned(other->bytes, alignment));
    }
    t->offset = best == SIZE_MAX ? end : best;
    total = std::max(total, t->offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), t, [](const Tenant* a, const Tenant* b) { return a->offset < b->offset; }),
                  t);
  }
  return total;
}

void ReplayMemory::need(Device& device, size_t bytes) {
  const auto found = blocks_.find(&device);
  if (found != blocks_.end() && found->second.bytes() >= bytes) return;
  blocks_.erase(&device);
  left_.erase(std::remove_if(left_.begin(), left_.end(), [&](const auto& storage) { return &storage->device == &device; }), left_.end());
  if (lasting_) device.arena.empty_cache();  // the recorded steps' memory is not needed a second time
  Shape shape;
  shape.rank = 1, shape.d[0] = int64_t(bytes);
  blocks_.emplace(&device, Array::empty(shape, Dtype::uint8, device));
  changes_++;
}

const Array* ReplayMemory::of(const Device& device) const {
  const auto found = blocks_.find(&device);
  return found == blocks_.end() ? nullptr : &found->second;
}

bool ReplayMemory::holds(const Array& array) const {
  const Array* memory = of(array.device());
  const std::less<const char*> before;
  const auto* at = static_cast<const char*>(array.data());
  const auto* begin = memory ? static_cast<const char*>(memory->data()) : at;
  return memory && !before(at, begin) && before(at, begin + memory->bytes());
}

void ReplayMemory::leave(std::vector<std::shared_ptr<Storage>> left) noexcept {
  for (const auto& storage : left_) storage->version++;
  left_ = std::move(left);
}

Replay::Replay(std::shared_ptr<Recording> recording, const std::vector<Array>& results, const std::vector<Array>& kept,
               std::shared_ptr<ReplayMemory> memory)
    : recording_(std::move(recording)), memory_(std::move(memory)) {
  const auto leave = [&](const Array& array, std::vector<Leaving>& where) {
    const int block = recording_->block_of(array);
    recording_->use(block, int(recording_->entries().size()));
    where.push_back({block, array.shape, array.dtype});
  };
  for (const Array& array : results) leave(array, results_);
  for (const Array& array : kept) leave(array, leaving_);
  recording_->settle();
  plan();
}

Replay::~Replay() { forget_graphs(); }

void Replay::plan() {
  const auto& blocks = recording_->blocks();
  const auto& entries = recording_->entries();
  lent_.assign(blocks.size(), false), offsets_.assign(blocks.size(), 0);
  scratch_offsets_.assign(entries.size(), 0), early_.assign(entries.size(), false);
  for (size_t e = 0; e < entries.size(); e++)
    if (entries[e].kind == Kind::copy && !entries[e].device->is_cpu()) {
      const int from = entries[e].operands[0].blocks[0], to = entries[e].operands[1].blocks[0];
      const auto& source = blocks[size_t(from)];
      early_[e] = source.device->is_cpu() && source.origin != Origin::made && !source.written;
      if (early_[e]) recording_->use_early(to);
    }
  for (const auto& entry : entries)
    if (std::find(devices_.begin(), devices_.end(), entry.device) == devices_.end()) devices_.push_back(entry.device);
  for (const auto& block : blocks) {
    if (std::find(devices_.begin(), devices_.end(), block.device) == devices_.end()) devices_.push_back(block.device);
    if (block.written && block.origin != Origin::made) written_.push_back(block.array.storage);
  }
  if (devices_ == std::vector<Device*>{&cpu()}) {
    for (size_t b = 0; b < blocks.size(); b++) lent_[b] = blocks[b].origin == Origin::argument;
    for (const Leaving& leaving : leaving_) lent_[size_t(leaving.block)] = false;  // outlives the run
    lends_ = std::find(lent_.begin(), lent_.end(), true) != lent_.end();
  }
  contexts_.reserve(devices_.size());
  for (Device* device : devices_) {
    streams_.push_back(device->stream());
    std::vector<Tenant> tenants;
    std::vector<size_t*> offsets;
    for (size_t b = 0; b < blocks.size(); b++) {
      const auto& block = blocks[b];
      if (block.device != device || lent_[b] || (block.origin != Origin::made && block.origin != Origin::argument)) continue;
      tenants.push_back({block.bytes, block.origin == Origin::argument ? -1 : block.first, block.last});
      offsets.push_back(&offsets_[b]);
    }
    for (size_t e = 0; e < entries.size(); e++)
      if (entries[e].scratch && entries[e].device == device && !recording_->keeps_packed(entries[e])) {
        tenants.push_back({entries[e].scratch, int(e), int(e)});
        offsets.push_back(&scratch_offsets_[e]);
      }
    needed_[device] = place_all(tenants, alignment_of(*device));
    least_ += most_alive(tenants, alignment_of(*device));
    for (size_t t = 0; t < tenants.size(); t++) *offsets[t] = tenants[t].offset;
  }
}

void Replay::keep_packed(size_t e) {
  const auto& entry = recording_->entries()[e];
  Shape shape;
  shape.rank = 1, shape.d[0] = int64_t(entry.scratch);
  const int weights = entry.operands[size_t(entry.packed)].blocks[0];
  packed_.emplace(e, Packed{Array::lasting(shape, Dtype::uint8, *entry.device), recording_->blocks()[size_t(weights)].array.storage, -1});
}

size_t Replay::packed() const {
  size_t bytes = 0;
  for (const auto& [entry, packed] : packed_) bytes += packed.scratch.bytes();
  return bytes;
}

size_t Replay::arena() const {
  size_t bytes = 0;
  for (const auto& [device, needed] : needed_) bytes += needed;
  return bytes;
}

void* Replay::address(int block) const {
  const auto& b = recording_->blocks()[size_t(block)];
  if (b.origin == Origin::constant || b.origin == Origin::outside) return b.array.data();
  if (lent_[size_t(block)]) return arguments_[size_t(b.number)].data();
  return static_cast<char*>(memory_->of(*b.device)->data()) + offsets_[size_t(block)];
}

// Over the place that the plan gave it; the memory lives as long as the array.
Array Replay::array(const Leaving& leaving) const {
  const auto& b = recording_->blocks()[size_t(leaving.block)];
  if (b.origin == Origin::constant || b.origin == Origin::outside) return {leaving.shape, leaving.dtype, b.array.storage};
  if (lent_[size_t(leaving.block)]) return {leaving.shape, leaving.dtype, arguments_[size_t(b.number)].storage};
  const std::shared_ptr<Storage> whole = memory_->of(*b.device)->storage;
  return {leaving.shape, leaving.dtype, std::make_shared<Storage>(*b.device, address(leaving.block), b.bytes, [whole] {})};
}

void Replay::point(void*& operand, int block) {
  if (lent_[size_t(block)])
    lent_pointers_.push_back({&operand, recording_->blocks()[size_t(block)].number});
  else
    operand = address(block);
}

// Turns blocks into addresses, but for what is lent. Again when the memory grew for another replay of the same step.
void Replay::bind() {
  for (const auto& [device, bytes] : needed_)
    if (bytes) memory_->need(*const_cast<Device*>(device), bytes);
  if (bound_ == memory_->changes()) return;
  forget_graphs();
  pointers_.clear(), lists_.clear(), lent_pointers_.clear(), steps_.clear(), looks_.clear(), kept_.clear();
  size_t count = 0;
  for (const auto& entry : recording_->entries()) count += entry.operands.size() + 1;
  pointers_.reserve(count);  // steps point into it
  for (size_t e = 0; e < recording_->entries().size(); e++) {
    const auto& entry = recording_->entries()[e];
    void* const* operands = pointers_.data() + pointers_.size();
    for (const auto& part : entry.operands) {
      if (entry.kind == Kind::look) break;
      if (!part.list) {
        pointers_.push_back(nullptr);
        if (!part.blocks.empty()) point(pointers_.back(), part.blocks[0]);
        continue;
      }
      Lists& lists = lists_.emplace_back();
      lists.data.resize(part.blocks.size());
      for (size_t i = 0; i < part.blocks.size(); i++) point(lists.data[i], part.blocks[i]);
      lists.list = {lists.data.data(), part.sizes.data(), int64_t(part.blocks.size())};
      pointers_.push_back(&lists.list);
    }
    const bool keeps = entry.kind == Kind::kernel && recording_->keeps_packed(entry);
    if (keeps && !packed_.count(e)) keep_packed(e);
    if (keeps)
      pointers_.push_back(packed_.at(e).scratch.data());
    else if (entry.kind == Kind::kernel)
      pointers_.push_back(entry.scratch ? static_cast<char*>(memory_->of(*entry.device)->data()) + scratch_offsets_[e] : nullptr);
    const size_t device = size_t(std::find(devices_.begin(), devices_.end(), entry.device) - devices_.begin());
    steps_.push_back({entry.kind, entry.kernel ? entry.kernel->run : nullptr, entry.parameters.data(), operands, device,
                      entry.kind == Kind::copy ? size_t(entry.operands[0].sizes[0]) : 0, keeps ? &packed_.at(e) : nullptr});
    if (entry.kind == Kind::look) looks_.push_back(e);
  }
  for (const Leaving& leaving : leaving_) kept_.push_back(array(leaving));
  bound_ = memory_->changes();
}

bool Replay::fits(const std::vector<Array>& arguments) const {
  const auto& recorded = recording_->arguments();
  if (arguments.size() != recorded.size() || !(Environment::now() == recording_->environment)) return false;
  for (size_t i = 0; i < arguments.size(); i++) {
    const Array& given = arguments[i];
    if (!(given.shape == recorded[i].shape) || given.dtype != recorded[i].dtype || &given.device() != recorded[i].device) return false;
    if (arguments[size_t(recorded[i].number)].storage != given.storage) return false;
    if (std::find(written_.begin(), written_.end(), given.storage) != written_.end()) return false;  // recorded anew, and refused there
  }
  for (size_t d = 0; d < devices_.size(); d++)
    if (devices_[d]->stream() != streams_[d]) return false;
  return true;
}

// What lies in the memory that the run writes to (gradients of the last one) is copied.
std::vector<Array> Replay::apart(std::vector<Array> arguments) const {
  for (Array& array : arguments)
    if (memory_->holds(array)) array = array.to(array.device());
  return arguments;
}

bool Replay::begin(const std::vector<Array>& given) {
  for (const Array& array : given) refuse_without_bytes(array);
  if (!fits(given)) return false;
  bind();
  std::vector<Array> arguments = apart(given);
  for (const auto& entry : recording_->entries())
    if (entry.kind == Kind::labels) {
      const auto& block = recording_->blocks()[size_t(entry.operands[0].blocks[0])];
      entry.labels(block.origin == Origin::argument ? arguments[size_t(block.number)] : block.array);
    }
  std::vector<Array> copies;
  for (const Leaving& leaving : results_)
    copies.push_back(Array::empty(leaving.shape, leaving.dtype, *recording_->blocks()[size_t(leaving.block)].device));
  std::vector<std::shared_ptr<Storage>> left;
  for (const Array& array : kept_)
    if (memory_->holds(array)) left.push_back(array.storage);
  copies_ = std::move(copies);
  memory_->leave(std::move(left));
  for (size_t b = 0; b < lent_.size(); b++) {
    const auto& block = recording_->blocks()[b];
    if (block.origin != Origin::argument || block.first < 0 || lent_[b]) continue;
    const Array& from = arguments[size_t(block.number)];
    from.storage->used_on(block.device->stream());
    block.device->copy(address(int(b)), from.data(), block.bytes);
  }
  for (const auto& [pointer, number] : lent_pointers_) *pointer = arguments[size_t(number)].data();
  if (lends_) arguments_ = std::move(arguments);
  for (size_t e = 0; e < steps_.size(); e++)
    if (early_[e]) devices_[steps_[e].device]->copy_in(steps_[e].operands[1], steps_[e].operands[0], steps_[e].bytes);
  at_ = 0, exceptions_ = float_exceptions();
  return true;
}

// Weights that were written since are packed anew.
void Replay::run_kernel(const Step& step, Context& context) {
  const Packing packing = context.packing;
  if (step.packed) {
    const int64_t version = step.packed->weights->version;
    if (step.packed->version == version) context.packing = Packing::kept;
    step.packed->version = version;
  }
  step.run(context, step.parameters, step.operands);
  context.packing = packing;
}

void Replay::run_part(size_t begin, size_t end) {
  contexts_.clear();
  for (Device* device : devices_) contexts_.push_back(recording_->context(*device));
  for (size_t i = begin; i < end; i++) {
    const Step& step = steps_[i];
    if (step.kind == Kind::kernel) {
      const auto& entry = recording_->entries()[i];
      const profiler::Watch watch(*entry.device, {entry.row, step.parameters, entry.algorithm, entry.bytes, entry.scope});
      run_kernel(step, contexts_[step.device]);
    } else if (step.kind == Kind::copy && !early_[i])
      devices_[step.device]->copy(step.operands[1], step.operands[0], step.bytes);
  }
}

void Replay::count(size_t begin, size_t end) {
  for (size_t i = begin; i < end; i++)
    if (steps_[i].kind == Kind::count) ++*static_cast<int64_t*>(steps_[i].operands[0]);
}

// --- graphs: of the entries between two looks, when all their kernels run on one GPU

bool Replay::launch(size_t begin, size_t end) {
  Device* gpu = nullptr;
  for (size_t i = begin; i < end; i++) {
    if (steps_[i].kind != Kind::kernel && (steps_[i].kind != Kind::copy || early_[i])) continue;
    Device* device = devices_[steps_[i].device];
    if (device->is_cpu() || (gpu && gpu != device)) return false;
    gpu = device;
  }
  if (!gpu || graphs_refused_ || !runs_ || profiler::on()) return false;  // the first run loads kernels, which a graph may not
  void*& graph = graphs_[begin];
  if (!graph && !make_graph(*gpu, begin, end, &graph)) {
    graphs_.erase(begin);
    graphs_refused_ = true;
    return false;
  }
  gpu->check(gpu->backend->launch_graph(graph, gpu->stream()));
  return true;
}

// Noted on a stream that nobody else has: what the loader's thread gives a stream meanwhile would be part of the graph, and not be done.
bool Replay::make_graph(Device& gpu, size_t begin, size_t end, void** graph) {
  const StreamApart apart(gpu);
  if (gpu.backend->begin_graph(apart.stream)) return false;
  try {
    run_part(begin, end);
  } catch (const DeviceError&) {  // end_graph fails as well
  }
  const bool made = !gpu.backend->end_graph(apart.stream, graph);
  return !gpu.backend->launch_error() && made;
}

void Replay::forget_graphs() {
  for (const auto& [begin, graph] : graphs_)
    for (Device* device : devices_) {
      if (device->is_cpu() || device->backend->select(device->index)) continue;
      device->backend->synchronize(device->stream());
      device->backend->destroy_graph(graph);
      break;
    }
  graphs_.clear();
}

// Whether the host looks this time.
bool Replay::wanted(const Recording::Entry& look) const {
  if (look.when == Look::exceptions) return float_exceptions() != exceptions_;
  if (look.when == Look::always) return true;
  const void* at = address(look.operands[0].blocks[0]);
  float narrow = 0;
  double wide = NAN;  // of another type: the host looks
  if (look.looked[0].dtype == Dtype::float32) look.device->copy_out(&narrow, at, sizeof narrow), wide = narrow;
  if (look.looked[0].dtype == Dtype::float64) look.device->copy_out(&wide, at, sizeof wide);
  return !std::isfinite(wide);
}

int Replay::run() {
  for (;;) {
    const int look = run_to_look();
    if (look < 0 || wanted(recording_->entries()[looks_[size_t(look)]])) return look;
  }
}

int Replay::run_to_look() {
  size_t end = steps_.size();
  int look = -1;
  for (size_t l = 0; l < looks_.size() && look < 0; l++)
    if (looks_[l] >= at_) end = looks_[l], look = int(l);
  {
    FloatState state;
    if (!launch(at_, end)) run_part(at_, end);
    count(at_, end);
  }
  for (Device* device : devices_) device->check_launches();
  at_ = look < 0 ? 0 : end + 1;
  if (look < 0) {
    runs_++;
    for (size_t i = 0; i < copies_.size(); i++) copies_[i].device().copy(copies_[i].data(), address(results_[i].block), copies_[i].bytes());
    drop();
  }
  for (const auto& storage : written_) storage->version++;  // at a look as well: a step may end there
  for (const Array& array : kept_) array.storage->version++;
  return look;
}

std::vector<Array> Replay::looked(int look) const {
  const auto& entry = recording_->entries()[looks_.at(size_t(look))];
  std::vector<Array> all;
  for (size_t i = 0; i < entry.looked.size(); i++)
    all.push_back(array({entry.operands[0].blocks[i], entry.looked[i].shape, entry.looked[i].dtype}));
  return all;
}

std::vector<Array> Replay::written() const {
  std::vector<Array> all;
  for (const auto& block : recording_->blocks())
    if (block.written && block.origin != Origin::made) all.push_back(block.array);
  return all;
}

}  // namespace fastnn
