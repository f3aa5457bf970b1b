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
  const int64_t first = rng[2] * x.shape[1] * x.shape[2];
  // The words that random_block (base/rng.h) makes of the key; dropout_test.cc holds the two together.
  const auto purpose = static_cast<uint32_t>(mask.key.purpose);
  const uint32_t high = purpose << 16 | static_cast<uint32_t>(mask.key.step >> 32 & 0xFFFF);
  visit_elements(y.dtype, [&]<class T>() {
    const auto& kernels = select_isa(dropout_kernels<Avx512, T>(), dropout_kernels<Avx2, T>());
    call.pool.parallel_for(y.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
      kernels.apply({
          .x = elements<T>(x) + begin,
          .y = elements<T>(y) + begin,
          .count = end - begin,
          .first = static_cast<uint64_t>(first + begin),
          .key = {static_cast<uint32_t>(mask.key.seed), static_cast<uint32_t>(mask.key.seed >> 32)},
          .counter = {static_cast<uint32_t>(mask.key.step), high},
          .threshold = mask.threshold,
          .scale = static_cast<float>(mask.scale),
      });
    });
  });
}

}  // namespace colossus
