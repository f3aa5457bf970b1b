#include "ops/expert_exchange/expert_exchange.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

// rows (.., C) and all_offsets of both operations.
Status check_operands(const ExpertExchangeAttributes& op, const Inference& io) {
  RETURN_IF_ERROR(op.check(io));
  if (op.expert_tensor < 1 || op.ranks % op.expert_tensor != 0)
    return io.fail_attribute("expert_tensor",
                             fmt::format("got {}; needed a divisor of the {} ranks", op.expert_tensor, op.ranks));
  RETURN_IF_ERROR(io.need_rank(0, 2));
  RETURN_IF_ERROR(io.need_float(0));
  RETURN_IF_ERROR(io.need_rank(1, 1));
  RETURN_IF_ERROR(io.need_dtype(1, DType::kI32));
  const int64_t owners = op.ranks / op.expert_tensor, per_rank = io.shape(1)[0] / op.ranks;
  if (per_rank * op.ranks != io.shape(1)[0] || per_rank < 2 || (per_rank - 1) % owners != 0)
    return io.fail(1, fmt::format("E + 1 numbers of each of {} ranks, E a multiple of {}", op.ranks, owners));
  return ok_status();
}

// `rows`: the tensor with the rank's own rows, (S, C). On average each row goes to expert_tensor ranks, any with the
// same chance, and as many come.
Cost exchange_cost(const ExpertExchangeAttributes& op, const OpShapes& shapes, const TensorType& rows) {
  const double moved = static_cast<double>(rows.num_bytes() * op.expert_tensor);
  Cost cost;
  cost.bytes_read = moved + static_cast<double>(shapes.input(1).num_bytes());
  cost.bytes_written = moved;
  cost.bytes_sent = moved * static_cast<double>(op.ranks - 1) / static_cast<double>(op.ranks);
  return cost;
}

}  // namespace

Status infer(const RowsToExperts& op, Inference& io) {
  using X = RowsToExperts;
  RETURN_IF_ERROR(check_operands(op, io));
  const TensorType rows = io.input(X::kRows);
  const int64_t num_experts = io.shape(X::kAllOffsets)[0] / op.ranks - 1;
  io.set_output(X::kArrived, {rows.shape[0] * op.ranks, rows.shape[1]}, rows.dtype);
  io.set_output(X::kOffsets, {num_experts * op.expert_tensor / op.ranks + 1}, DType::kI32);
  return ok_status();
}

Cost cost(const RowsToExperts& op, const OpShapes& shapes) {
  return exchange_cost(op, shapes, shapes.input(RowsToExperts::kRows));
}

void adjoint(const RowsToExperts& op, Adjoint& a) {
  using X = RowsToExperts;
  if (a.wants(X::kRows))
    a.contribute(X::kRows,
                 a.builder().emit(RowsFromExperts{op}, {a.output_grad(X::kArrived), a.input(X::kAllOffsets)}));
}

Status infer(const RowsFromExperts& op, Inference& io) {
  using X = RowsFromExperts;
  RETURN_IF_ERROR(check_operands(op, io));
  const TensorType arrived = io.input(X::kArrived);
  if (arrived.shape[0] % op.ranks != 0)
    return io.fail(X::kArrived, fmt::format("room for as many rows of each of {} ranks", op.ranks));
  io.set_output(X::kRows, {arrived.shape[0] / op.ranks, arrived.shape[1]}, arrived.dtype);
  return ok_status();
}

Cost cost(const RowsFromExperts& op, const OpShapes& shapes) {
  const TensorType& rows = shapes.output(RowsFromExperts::kRows);
  Cost cost = exchange_cost(op, shapes, rows);
  cost.flops = static_cast<double>(rows.shape.num_elements() * (op.expert_tensor - 1));
  return cost;
}

void adjoint(const RowsFromExperts& op, Adjoint& a) {
  using X = RowsFromExperts;
  if (a.wants(X::kArrived))
    a.contribute(X::kArrived, a.builder().emit(RowsToExperts{op}, {a.output_grad(X::kRows), a.input(X::kAllOffsets)}));
}

}  // namespace colossus
