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

}  // namespace

void guard(Device& device, void* data, size_t bytes) { device.fill(static_cast<char*>(data) + bytes, sentinel, Arena::slack()); }

void arm(Device& device, void* data, size_t bytes) {
  device.fill(data, 0xFF, bytes);  // NaN, -1, 255
  guard(device, data, bytes);
}

void verify(Device& device, const char* row, const char* operand, const void* data, size_t bytes) {
  unsigned char behind[Arena::most_slack];
  device.copy_out(behind, static_cast<const char*>(data) + bytes, Arena::slack());
  for (size_t i = 0; i < Arena::slack(); i++)
    if (behind[i] != sentinel)
      throw std::runtime_error(std::string("fastnn internal error: ") + row + " wrote behind " + operand + " at byte " + std::to_string(i));
}

void check_finite(const RowInfo& row, const Operand& operand, const Array& written) {
  const Array array = written.device().is_cpu() ? written : written.to(cpu());
  int64_t at = -1;
  if (array.dtype == Dtype::float32) at = first_not_finite(static_cast<const float*>(array.data()), array.count());
  if (array.dtype == Dtype::float64) at = first_not_finite(static_cast<const double*>(array.data()), array.count());
  if (at >= 0)
    throw NotFinite(std::string(row.name) + ": output " + operand.name + " " + text(array.shape) + " is not finite at element " +
                    std::to_string(at) + " (in memory order)");
}

}  // namespace fastnn
