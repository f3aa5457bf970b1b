#include "ops/collective/collective.h"

#include <fmt/format.h>

namespace colossus {

Status CollectiveAttributes::check(const Inference& io) const {
  if (ranks >= 1 && rank >= 0 && rank < ranks) return ok_status();
  return io.fail_attribute("rank", fmt::format("got {} of {}; needed a rank of the group", rank, ranks));
}

Status infer(const AllReduce& op, Inference& io) {
  RETURN_IF_ERROR(op.check(io));
  const DType dtype = io.input(AllReduce::kX).dtype;
  if (!is_float(dtype) && dtype != DType::kI64) return io.fail(AllReduce::kX, "a float type or i64");
  io.set_output(AllReduce::kSum, io.shape(AllReduce::kX), dtype);
  return ok_status();
}

Cost cost(const AllReduce& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AllReduce::kInputs);
  // Each rank adds its part of what all have.
  cost.flops = static_cast<double>(shapes.shape(AllReduce::kX).num_elements()) * static_cast<double>(op.ranks - 1) /
               static_cast<double>(op.ranks);
  // A part to and from each peer, twice: the terms, then the sums.
  cost.bytes_sent = 2 * static_cast<double>(shapes.input(AllReduce::kX).num_bytes()) *
                    static_cast<double>(op.ranks - 1) / static_cast<double>(op.ranks);
  return cost;
}

}  // namespace colossus
