#include "ops/transfer/transfer.h"

#include <fmt/format.h>

namespace colossus {

Status TransferAttributes::check(const Inference& io) const {
  if (group.link != Link::kNone) return ok_status();
  return io.fail_attribute("group", fmt::format("got {}; needed a link between two stages", group.name()));
}

Status infer(const Send& op, Inference& io) { return op.check(io); }

Cost cost(const Send&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Send::kInputs);
  cost.bytes_sent = static_cast<double>(shapes.input(Send::kX).num_bytes());
  return cost;
}

Status infer(const Receive& op, Inference& io) {
  RETURN_IF_ERROR(op.check(io));
  io.set_output(Receive::kX, op.shape, op.dtype);
  return ok_status();
}

Cost cost(const Receive&, const OpShapes& shapes) { return shapes.memory_traffic(Receive::kInputs); }

}  // namespace colossus
