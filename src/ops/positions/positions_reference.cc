#include "device/cpu/cpu_kernel.h"
#include "ops/positions/positions.h"

namespace colossus {

template <>
void run_reference(const Positions& op, const ReferenceCall& call) {
  for (int64_t i = 0; i < op.batch * op.tokens; ++i)
    call.output(Positions::kPositions).set(i, static_cast<double>(position_of(op, i % op.tokens)));
}

}  // namespace colossus
