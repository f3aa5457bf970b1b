#include "device/cpu/cpu_kernel.h"
#include "ops/dropout/dropout.h"

namespace colossus {

template <>
void run_reference(const Dropout& op, const ReferenceCall& call) {
  const View &x = call.input(Dropout::kX), &y = call.output(Dropout::kY);
  const int64_t* rng = call.input(Dropout::kRng).as<int64_t>();
  const DropoutMask mask(op, rng[0], rng[1]);
  const int64_t T = x.shape[1], C = x.shape[2];
  for (int64_t i = 0; i < y.num_elements(); ++i) {
    int64_t index = rng[2] * T * C + i;
    if (call.has_input(Dropout::kPositions)) {
      const auto position = static_cast<int64_t>(call.input(Dropout::kPositions).get(i / C));
      index = ((rng[2] + i / C / T) * op.sequence_tokens + position) * C + i % C;
    }
    const bool keep = random_bits(mask.key, static_cast<uint64_t>(index)) >= mask.threshold;
    y.set(i, keep ? x.get(i) * mask.scale : 0);
  }
}

}  // namespace colossus
