#include "sentinels.h"

#include <cmath>

namespace fastnn {
namespace {

constexpr unsigned char sentinel = 0xA5;

template <class E>
int64_t first_not_finite(const E* p, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!std::isfinite(p[i])) return i;
  return -1;
}

void guard(Device& device, void* data, size_t bytes) { device.fill(static_cast<char*>(data) + bytes, sentinel, Arena::slack()); }

void poison(Device& device, void* data, size_t bytes) {
  device.fill(data, 0xFF, bytes);  // NaN, -1, 255
  guard(device, data, bytes);
}

void look_behind(Device& device, const char* row, const char* operand, const void* data, size_t bytes) {
  unsigned char behind[Arena::most_slack];
  device.copy_out(behind, static_cast<const char*>(data) + bytes, Arena::slack());
  for (size_t i = 0; i < Arena::slack(); i++)
    if (behind[i] != sentinel)
      throw std::runtime_error(std::string("fastnn internal error: ") + row + " wrote behind " + operand + " at byte " + std::to_string(i));
}

void refuse_not_finite(const RowInfo& row, const Operand& operand, const Array& output) {
  const Array array = output.device().is_cpu() ? output : output.to(cpu());
  int64_t at = -1;
  if (array.dtype == Dtype::float32) at = first_not_finite(static_cast<const float*>(array.data()), array.count());
  if (array.dtype == Dtype::float64) at = first_not_finite(static_cast<const double*>(array.data()), array.count());
  if (at >= 0)
    throw NotFinite(std::string(row.name) + ": output " + operand.name + " " + text(array.shape) + " is not finite at element " +
                    std::to_string(at) + " (in memory order)");
}

template <class F>
void for_each_output(const Written& w, F visit) {
  size_t next = 0;
  for (const Operand& operand : w.row.operands)
    if (operand.direction == Direction::out) visit(operand, w.outputs[next++]);
}

// Arrays written in place that end where their block of the arena does: behind them lies the slack.
template <class F>
void for_each_inout(const Written& w, F visit) {
  size_t next = 0;
  for (const Operand& operand : w.row.operands) {
    if (operand.direction == Direction::out) continue;
    const Argument& argument = w.arguments[next++];
    if (operand.direction != Direction::inout) continue;
    for (const Array& array : argument)
      if (array.storage->from_arena() && array.storage->bytes == array.bytes()) visit(operand, array);
  }
}

}  // namespace

void Written::arm() const {
  for (const Array& output : outputs) poison(device, output.data(), output.bytes());
  for_each_inout(*this, [](const Operand&, const Array& array) { guard(array.device(), array.data(), array.bytes()); });
  if (scratch) poison(device, scratch, scratch_bytes);
}

void Written::verify() const {
  const auto look = [&](const Operand& operand, const Array& array) {
    look_behind(device, row.name, operand.name, array.data(), array.bytes());
  };
  for_each_output(*this, look);
  for_each_inout(*this, look);
  if (scratch) look_behind(device, row.name, "scratch", scratch, scratch_bytes);
}

void Written::check_finite() const {
  for_each_output(*this, [&](const Operand& operand, const Array& output) { refuse_not_finite(row, operand, output); });
}

}  // namespace fastnn
