#include "ops/positions/positions.h"

#include <fmt/format.h>

namespace colossus {

Status infer(const Positions& op, Inference& io) {
  if (op.batch < 0 || op.tokens < 0 || op.first < 0)
    return io.fail_attribute("first",
                             fmt::format("got {} of {} x {}; needed none below 0", op.first, op.batch, op.tokens));
  io.set_output(Positions::kPositions, {op.batch, op.tokens}, DType::kI32);
  return ok_status();
}

Cost cost(const Positions&, const OpShapes& shapes) { return shapes.memory_traffic(Positions::kInputs); }

}  // namespace colossus
