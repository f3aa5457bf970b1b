#include "device/cpu/cpu_kernel.h"
#include "ops/positions/positions.h"

namespace colossus {

template <>
void prepare_cpu(const Positions&, CpuPrepare&) {}

template <>
void run_cpu(const Positions& op, const CpuCall& call) {
  auto* positions = call.output(Positions::kPositions).as<int32_t>();
  for (int64_t b = 0; b < op.batch; ++b)
    for (int64_t t = 0; t < op.tokens; ++t) positions[b * op.tokens + t] = static_cast<int32_t>(position_of(op, t));
}

}  // namespace colossus
