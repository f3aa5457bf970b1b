#include "ops/token_dispatch/token_dispatch.h"

#include <fmt/format.h>

#include "ops/expert_exchange/expert_exchange.h"
#include "program/builder.h"

namespace colossus {
namespace {

double num_elements(const OpShapes& shapes, int i) { return static_cast<double>(shapes.shape(i).num_elements()); }

// slot_row is i32 (..., k), rows (S, C) with S its elements.
Status check_rows(const Inference& io, int rows, int slot_row) {
  RETURN_IF_ERROR(io.need_rank(rows, 2));
  RETURN_IF_ERROR(io.need_float(rows));
  RETURN_IF_ERROR(io.need_dtype(slot_row, DType::kI32));
  if (io.shape(slot_row).rank() < 1) return io.fail(slot_row, "at least 1 dimension");
  return io.need_size(rows, 0, io.shape(slot_row).num_elements(), "one row for each slot of slot_row");
}

Status check_gates(const Inference& io, int gates, int slot_row, int rows) {
  RETURN_IF_ERROR(io.need_shape(gates, io.shape(slot_row), "like slot_row"));
  return io.need_dtype(gates, statistics_dtype(io.input(rows).dtype));
}

Status check_addend(const Inference& io, int addend, const Shape& shape, DType dtype) {
  if (!io.has_input(addend)) return ok_status();
  RETURN_IF_ERROR(io.need_shape(addend, shape, "the shape of the output"));
  return io.need_dtype(addend, dtype);
}

// The ranks that share the experts: one alone when none do.
ExpertExchangeAttributes expert_group(const Partition& p) {
  RankGroup group;
  for (const MeshAxis axis : {MeshAxis::kExpert, MeshAxis::kExpertTensor})
    if (p.size(axis) > 1) group = group.with(axis);
  return {among(group, p.position()), p.size(MeshAxis::kExpertTensor)};
}

}  // namespace

Status infer(const TokenDispatch& op, Inference& io) {
  using D = TokenDispatch;
  RETURN_IF_ERROR(io.need_float(D::kX));
  RETURN_IF_ERROR(io.need_dtype(D::kExperts, DType::kI32));
  const Shape& x = io.shape(D::kX);
  const Shape& experts = io.shape(D::kExperts);
  if (x.rank() < 2) return io.fail(D::kX, "at least 2 dimensions");
  if (experts.rank() != x.rank() || experts.num_rows() != x.num_rows())
    return io.fail(D::kExperts,
                   fmt::format("{}: k experts for each token of x", x.with(-1, experts.row_size()).to_string()));
  if (op.num_experts < 1)
    return io.fail_attribute("num_experts", fmt::format("got {}; needed at least 1", op.num_experts));
  io.set_output(D::kRows, Shape{experts.num_elements(), x.row_size()}, io.input(D::kX).dtype);
  io.set_output(D::kOffsets, Shape{op.num_experts + 1}, DType::kI32);
  io.set_output(D::kSlotRow, experts, DType::kI32);
  return ok_status();
}

Cost cost(const TokenDispatch&, const OpShapes& shapes) { return shapes.memory_traffic(TokenDispatch::kInputs); }

void adjoint(const TokenDispatch&, Adjoint& a) {
  if (a.wants(TokenDispatch::kX))
    a.contribute(TokenDispatch::kX, a.builder().emit(TokenDispatchGrad{}, {a.output_grad(TokenDispatch::kRows),
                                                                           a.output(TokenDispatch::kSlotRow)}));
}

void partition(const TokenDispatch& op, Partition& p) {
  using D = TokenDispatch;
  const Placement& tokens = p.tokens();
  Builder& b = p.builder();
  b.emit(op, {p.input(D::kX, tokens), p.input(D::kExperts, tokens)});
  if (!b.status().ok()) return;
  const std::vector<TensorId> own = b.last_outputs();
  p.set_output(D::kSlotRow, own[D::kSlotRow], tokens);
  const ExpertExchangeAttributes group = expert_group(p);
  if (group.ranks == 1) {
    Placement rows;
    for (const Placement::OnAxis& cut : tokens.axes()) rows = rows.cut(cut.axis, 0);
    p.set_output(D::kRows, own[D::kRows], rows);
    p.set_output(D::kOffsets, own[D::kOffsets], p.term_of_sum());
    return;
  }
  const TensorId all_offsets = b.emit(AllGather{{group, 0}}, {own[D::kOffsets]}, "all_offsets");
  b.emit(RowsToExperts{group}, {own[D::kRows], all_offsets});
  if (!b.status().ok()) return;
  const Placement experts = p.size(MeshAxis::kExpert) > 1 ? Placement().cut(MeshAxis::kExpert, 0) : Placement();
  p.set_output(D::kRows, b.last_outputs()[RowsToExperts::kArrived], experts);
  p.set_output(D::kOffsets, b.last_outputs()[RowsToExperts::kOffsets], experts);
  p.set_companion(D::kSlotRow, all_offsets);
}

Status infer(const TokenDispatchGrad&, Inference& io) {
  using G = TokenDispatchGrad;
  RETURN_IF_ERROR(check_rows(io, G::kDrows, G::kSlotRow));
  const TensorType& drows = io.input(G::kDrows);
  const Shape shape = io.shape(G::kSlotRow).with(-1, drows.shape[1]);
  RETURN_IF_ERROR(check_addend(io, G::kAddend, shape, drows.dtype));
  io.set_output(G::kDx, shape, drows.dtype);
  return ok_status();
}

Cost cost(const TokenDispatchGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(TokenDispatchGrad::kInputs);
  cost.flops = num_elements(shapes, TokenDispatchGrad::kDrows);
  return cost;
}

Status infer(const TokenCombine&, Inference& io) {
  using C = TokenCombine;
  RETURN_IF_ERROR(check_rows(io, C::kRows, C::kSlotRow));
  RETURN_IF_ERROR(check_gates(io, C::kGates, C::kSlotRow, C::kRows));
  const TensorType& rows = io.input(C::kRows);
  const Shape shape = io.shape(C::kSlotRow).with(-1, rows.shape[1]);
  RETURN_IF_ERROR(check_addend(io, C::kAddend, shape, rows.dtype));
  io.set_output(C::kY, shape, rows.dtype);
  return ok_status();
}

Cost cost(const TokenCombine&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(TokenCombine::kInputs);
  cost.flops = 2 * num_elements(shapes, TokenCombine::kRows);
  return cost;
}

void adjoint(const TokenCombine&, Adjoint& a) {
  using C = TokenCombine;
  const TensorId dy = a.output_grad(C::kY);
  if (a.input(C::kAddend) && a.wants(C::kAddend)) a.contribute(C::kAddend, dy);
  if (!a.wants(C::kRows) && !a.wants(C::kGates)) return;
  a.builder().emit(TokenCombineGrad{}, {dy, a.input(C::kRows), a.input(C::kGates), a.input(C::kSlotRow)});
  const std::vector<TensorId> grads = a.builder().last_outputs();
  if (grads.empty()) return;  // the builder has failed
  if (a.wants(C::kRows)) a.contribute(C::kRows, grads[TokenCombineGrad::kDrows]);
  if (a.wants(C::kGates)) a.contribute(C::kGates, grads[TokenCombineGrad::kDgates]);
}

void partition(const TokenCombine& op, Partition& p) {
  using C = TokenCombine;
  const Placement& tokens = p.tokens();
  TensorId rows = p.input(C::kRows);
  if (const TensorId all_offsets = p.companion(C::kSlotRow)) {
    const Placement::OnAxis* shared = p.placement(C::kRows).find(MeshAxis::kExpertTensor);
    if (p.size(MeshAxis::kExpertTensor) > 1 && !(shared && shared->kind == Placement::Kind::kPartial))
      return p.fail(
          fmt::format("token_combine.rows: got {}; needed sums that the ranks of expert_tensor share: the "
                      "experts' last weight cut by rows",
                      p.placement(C::kRows).to_string()));
    rows = p.builder().emit(RowsFromExperts{expert_group(p)}, {rows, all_offsets});
  }
  emit_part(p, op, {rows, p.input(C::kGates, tokens), p.input(C::kSlotRow, tokens), p.input(C::kAddend, tokens)},
            {tokens});
}

Status infer(const TokenCombineGrad&, Inference& io) {
  using G = TokenCombineGrad;
  RETURN_IF_ERROR(check_rows(io, G::kRows, G::kSlotRow));
  RETURN_IF_ERROR(check_gates(io, G::kGates, G::kSlotRow, G::kRows));
  const TensorType rows = io.input(G::kRows);
  RETURN_IF_ERROR(io.need_shape(G::kDy, io.shape(G::kSlotRow).with(-1, rows.shape[1]), "a row for each token"));
  RETURN_IF_ERROR(io.need_dtype(G::kDy, rows.dtype));
  io.set_output(G::kDrows, rows.shape, rows.dtype);
  io.set_output(G::kDgates, io.shape(G::kGates), io.input(G::kGates).dtype);
  return ok_status();
}

Cost cost(const TokenCombineGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(TokenCombineGrad::kInputs);
  cost.flops = 3 * num_elements(shapes, TokenCombineGrad::kRows);
  return cost;
}

}  // namespace colossus
