#include "ops/zeros/zeros.h"

#include <fmt/format.h>

namespace colossus {

Status infer(const Zeros& op, Inference& io) {
  if (op.size < 0) return io.fail_attribute("size", fmt::format("got {}; needed none below 0", op.size));
  io.set_output(Zeros::kZeros, {op.size}, DType::kF32);
  return ok_status();
}

Cost cost(const Zeros&, const OpShapes& shapes) { return shapes.memory_traffic(Zeros::kInputs); }

}  // namespace colossus
