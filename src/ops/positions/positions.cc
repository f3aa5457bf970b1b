#include "ops/positions/positions.h"

#include <fmt/format.h>

namespace colossus {

Status infer(const Positions& op, Inference& io) {
  if (op.batch < 0 || op.tokens < 0)
    return io.fail_attribute("tokens", fmt::format("got {} x {}; needed none below 0", op.batch, op.tokens));
  if (op.first < 0 || op.second < 0)
    return io.fail_attribute("first", fmt::format("got {} and {}; needed columns", op.first, op.second));
  if (op.num_second < 0 || op.num_second > op.tokens)
    return io.fail_attribute("num_second", fmt::format("got {}; needed 0 to {}", op.num_second, op.tokens));
  io.set_output(Positions::kPositions, {op.batch, op.tokens}, DType::kI32);
  return ok_status();
}

Cost cost(const Positions&, const OpShapes& shapes) { return shapes.memory_traffic(Positions::kInputs); }

}  // namespace colossus
