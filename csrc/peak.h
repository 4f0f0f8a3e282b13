// What the processor can do now, for kernels to be compared with, on the threads of the pool.
#pragma once

namespace fastnn {

struct Peak {
  double gflops;    // multiply-adds of float32 in registers, 2 operations each, as wide as the chosen instruction set
  double copy_gbs;  // read and written by a copy of 64 MiB, the better of ordinary and streaming stores
};

Peak measure_peak();  // takes about a tenth of a second

}  // namespace fastnn
