// What this machine can do at most, measured: the yardsticks beside training's FLOP/s and decoding's bytes/s.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace colossus {

// Multiplications and additions per second (two per product) of all `num_threads` threads together, in registers only:
// the best of several short runs. kBF16: dot products where the processor has them, else what bf16 runs as, fp32.
// Takes about 50 ms.
double measure_peak_flops(int num_threads, DType dtype);

// Bytes per second read by all threads together from memory too large for the caches. Takes about 200 ms and 256 MB;
// 0 if the memory cannot be had.
double measure_read_bandwidth(int num_threads);

}  // namespace colossus
