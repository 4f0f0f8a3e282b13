// Blocks of the host between two pages that nobody may touch: a kernel that reads or writes one element beyond stops there with a fault.
// A block is seldom a whole number of pages, so it lies at one of them, to the byte: at its end (FASTNN_ARENA=fenced), or at its start
// (fenced-before). Slow; for tests.
#pragma once
#include <cstddef>

namespace fastnn::fence {

void* allocate_at_end(size_t bytes);  // null when there is not enough
void* allocate_at_start(size_t bytes);
void release(void* block);

}  // namespace fastnn::fence
