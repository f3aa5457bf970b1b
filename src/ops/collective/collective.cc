#include "ops/collective/collective.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status check_dimension(const CutAttributes& op, const Inference& io) {
  RETURN_IF_ERROR(op.check(io));
  const int rank = io.shape(0).rank();
  if (op.dimension >= 0 && op.dimension < rank) return ok_status();
  return io.fail_attribute("dimension", fmt::format("got {}; needed one of x, which has {}", op.dimension, rank));
}

// `part`: what one rank has along the dimension.
Status check_fold(const CutAttributes& op, const Inference& io, int64_t part) {
  return op.folded && part % 2 != 0
             ? io.fail(0, fmt::format("an even number of each rank in dimension {}", op.dimension))
             : ok_status();
}

Status need_summable(const Inference& io) {
  const DType dtype = io.input(0).dtype;
  return is_float(dtype) || dtype == DType::kI64 ? ok_status() : io.fail(0, "a float type or i64");
}

}  // namespace

Status CollectiveAttributes::check(const Inference& io) const {
  if (ranks >= 1 && rank >= 0 && rank < ranks) return ok_status();
  return io.fail_attribute("rank", fmt::format("got {} of {}; needed a rank of the group", rank, ranks));
}

CollectiveAttributes among(RankGroup group, const MeshPosition& position) {
  CollectiveAttributes op{.group = group};
  for (const MeshAxis axis : kMeshAxes) {  // outermost first, as ranks are numbered
    if (!group.contains(axis)) continue;
    op.ranks *= position[axis].size;
    op.rank = op.rank * position[axis].size + position[axis].coordinate;
  }
  return op;
}

Status infer(const AllReduce& op, Inference& io) {
  RETURN_IF_ERROR(op.check(io));
  RETURN_IF_ERROR(need_summable(io));
  io.set_output(AllReduce::kSum, io.shape(AllReduce::kX), io.input(AllReduce::kX).dtype);
  return ok_status();
}

Cost cost(const AllReduce& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AllReduce::kInputs);
  const TensorType& x = shapes.input(AllReduce::kX);
  const int64_t count = x.shape.num_elements(), peers = op.ranks - 1;
  if (op.in_one_round(x.num_bytes())) {
    cost.flops = static_cast<double>(count * peers);
    cost.bytes_sent = static_cast<double>(x.num_bytes() * peers);
    return cost;
  }
  // Each rank adds its part of what all have, and hands on the sums.
  const int64_t part = count * (op.rank + 1) / op.ranks - count * op.rank / op.ranks;
  cost.flops = static_cast<double>(part * peers);
  cost.bytes_sent = static_cast<double>((count - part + part * peers) * dtype_bytes(x.dtype));
  return cost;
}

void adjoint(const AllReduce&, Adjoint& a) {
  if (a.wants(AllReduce::kX)) a.contribute(AllReduce::kX, a.output_grad(AllReduce::kSum));
}

Status infer(const AllGather& op, Inference& io) {
  RETURN_IF_ERROR(check_dimension(op, io));
  const TensorType& x = io.input(AllGather::kX);
  const int dimension = static_cast<int>(op.dimension);
  RETURN_IF_ERROR(check_fold(op, io, x.shape[dimension]));
  io.set_output(AllGather::kWhole, x.shape.with(dimension, x.shape[dimension] * op.ranks), x.dtype);
  return ok_status();
}

Cost cost(const AllGather& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AllGather::kInputs);
  cost.bytes_sent = static_cast<double>(shapes.input(AllGather::kX).num_bytes() * (op.ranks - 1));
  return cost;
}

void adjoint(const AllGather& op, Adjoint& a) {
  if (a.wants(AllGather::kX))
    a.contribute(AllGather::kX, a.builder().emit(ReduceScatter{op}, {a.output_grad(AllGather::kWhole)}));
}

Status infer(const ReduceScatter& op, Inference& io) {
  RETURN_IF_ERROR(check_dimension(op, io));
  RETURN_IF_ERROR(need_summable(io));
  const TensorType& x = io.input(ReduceScatter::kX);
  const int dimension = static_cast<int>(op.dimension);
  if (x.shape[dimension] % op.ranks != 0)
    return io.fail(ReduceScatter::kX, fmt::format("a multiple of {} ranks in dimension {}", op.ranks, dimension));
  RETURN_IF_ERROR(check_fold(op, io, x.shape[dimension] / op.ranks));
  io.set_output(ReduceScatter::kPart, x.shape.with(dimension, x.shape[dimension] / op.ranks), x.dtype);
  return ok_status();
}

Cost cost(const ReduceScatter& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(ReduceScatter::kInputs);
  const TensorType& part = shapes.output(ReduceScatter::kPart);
  cost.flops = static_cast<double>(part.shape.num_elements() * (op.ranks - 1));
  cost.bytes_sent = static_cast<double>(part.num_bytes() * (op.ranks - 1));
  return cost;
}

void adjoint(const ReduceScatter& op, Adjoint& a) {
  if (a.wants(ReduceScatter::kX))
    a.contribute(ReduceScatter::kX, a.builder().emit(AllGather{op}, {a.output_grad(ReduceScatter::kPart)}));
}

}  // namespace colossus
