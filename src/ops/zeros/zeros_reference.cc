#include "device/cpu/cpu_kernel.h"
#include "ops/zeros/zeros.h"

namespace colossus {

template <>
void run_reference(const Zeros& op, const ReferenceCall& call) {
  for (int64_t i = 0; i < op.size; ++i) call.output(Zeros::kZeros).set(i, 0);
}

}  // namespace colossus
