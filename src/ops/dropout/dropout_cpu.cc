#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/simd.h"
#include "ops/dropout/dropout.h"
#include "ops/dropout/dropout_simd.h"

namespace colossus {

template <>
void prepare_cpu(const Dropout&, CpuPrepare&) {}

template <>
void run_cpu(const Dropout& op, const CpuCall& call) {
  constexpr int64_t kGrain = 2048;
  const View &x = call.input(Dropout::kX), &y = call.output(Dropout::kY);
  const int64_t* rng = call.input(Dropout::kRng).as<int64_t>();
  const DropoutMask mask(op, rng[0], rng[1]);
  // The words that random_block (base/rng.h) makes of the key; dropout_test.cc holds the two together.
  const auto purpose = static_cast<uint32_t>(mask.key.purpose);
  const uint32_t high = purpose << 16 | static_cast<uint32_t>(mask.key.step >> 32 & 0xFFFF);
  visit_elements(y.dtype, [&]<class T>() {
    const auto& kernels = select_isa(dropout_kernels<Avx512, T>(), dropout_kernels<Avx2, T>());
    // Elements [begin, end) of x, the first of which is number `first` of the global batch.
    const auto apply = [&](int64_t begin, int64_t end, int64_t first) {
      kernels.apply({
          .x = elements<T>(x) + begin,
          .y = elements<T>(y) + begin,
          .count = end - begin,
          .first = static_cast<uint64_t>(first),
          .key = {static_cast<uint32_t>(mask.key.seed), static_cast<uint32_t>(mask.key.seed >> 32)},
          .counter = {static_cast<uint32_t>(mask.key.step), high},
          .threshold = mask.threshold,
          .scale = static_cast<float>(mask.scale),
      });
    };
    const int64_t tokens = x.shape[1], width = x.shape[2];
    if (!call.has_input(Dropout::kPositions)) {
      const int64_t first = rng[2] * tokens * width;
      return call.pool.parallel_for(y.num_elements(), kGrain,
                                    [&](int64_t begin, int64_t end) { apply(begin, end, first + begin); });
    }
    const int32_t* positions = call.input(Dropout::kPositions).as<int32_t>();
    for_row_ranges(call.pool, y, [&]<class>(int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        apply(row * width, (row + 1) * width, ((rng[2] + row / tokens) * op.sequence_tokens + positions[row]) * width);
    });
  });
}

}  // namespace colossus
