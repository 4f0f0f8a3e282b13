// Blocks of the host that end where a page begins that nobody may touch, behind another such page: a kernel that reads or writes one
// element beyond stops there with a fault. Slow; for tests (FASTNN_ARENA=fenced).
#pragma once
#include <cstddef>

namespace fastnn::fence {

void* allocate(size_t bytes);  // null when there is not enough
void release(void* block);

}  // namespace fastnn::fence
