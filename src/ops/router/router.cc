#include "ops/router/router.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status check_attributes(const RouterAttributes& op, const Inference& io, int logits) {
  const int64_t num_experts = io.shape(logits).row_size();
  if (op.top_k < 1 || op.top_k > num_experts)
    return io.fail_attribute("top_k",
                             fmt::format("got {}; needed 1 to {}, the number of experts", op.top_k, num_experts));
  if (!(op.softcap >= 0))
    return io.fail_attribute("softcap", fmt::format("got {}; needed 0 (none) or more", op.softcap));
  return ok_status();
}

Status check_logits(const Inference& io, int logits) {
  if (io.shape(logits).rank() < 1) return io.fail(logits, "at least 1 dimension");
  if (io.input(logits).dtype == DType::kF32 || io.input(logits).dtype == DType::kF64) return ok_status();
  return io.fail(logits, "f32 (f64 in an fp64 program); cast before routing");
}

// () of the loss of `logits` beside counts (E).
Status check_loss_operands(const RouterAttributes& op, const Inference& io, int logits, int counts) {
  RETURN_IF_ERROR(check_logits(io, logits));
  RETURN_IF_ERROR(check_attributes(op, io, logits));
  RETURN_IF_ERROR(io.need_shape(counts, {io.shape(logits).row_size()}, "one count for each expert"));
  return io.need_dtype(counts, DType::kI64);
}

double num_logits(const OpShapes& shapes, int logits) {
  return static_cast<double>(shapes.shape(logits).num_elements());
}

}  // namespace

Status infer(const Router& op, Inference& io) {
  RETURN_IF_ERROR(check_logits(io, Router::kLogits));
  RETURN_IF_ERROR(check_attributes(op, io, Router::kLogits));
  const TensorType logits = io.input(Router::kLogits);
  const Shape chosen = logits.shape.with(-1, op.top_k);
  io.set_output(Router::kGates, chosen, logits.dtype);
  io.set_output(Router::kExperts, chosen, DType::kI32);
  io.set_output(Router::kProbs, logits.shape, logits.dtype);
  io.set_output(Router::kAux, {}, logits.dtype);
  return ok_status();
}

// A softmax is about 8 operations per element, each round of the choice one comparison.
Cost cost(const Router& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Router::kInputs);
  cost.flops = num_logits(shapes, Router::kLogits) * (8.0 + static_cast<double>(op.top_k));
  return cost;
}

void adjoint(const Router& op, Adjoint& a) {
  if (a.output_grad(Router::kProbs)) return a.fail("router.probs: has no adjoint; differentiate through gates or aux");
  if (!a.wants(Router::kLogits)) return;
  a.contribute(Router::kLogits,
               a.builder().emit(RouterGrad{op},
                                {a.output_grad(Router::kGates), a.output_grad(Router::kAux), a.input(Router::kLogits),
                                 a.output(Router::kProbs), a.output(Router::kExperts), a.output(Router::kGates)}));
}

void partition(const Router& op, Partition& p) {
  using R = Router;
  const Placement& tokens = p.tokens();
  const TensorId logits = p.input(R::kLogits, tokens);
  if (tokens.axes().empty()) return emit_part(p, op, {logits}, {tokens, tokens, tokens, {}});
  Router part = op;
  part.balance_loss = part.z_loss = 0;
  emit_part(p, part, {logits}, {tokens, tokens, tokens, p.term_of_sum()});
  Builder& b = p.builder();
  if (!b.status().ok() || (op.balance_loss == 0 && op.z_loss == 0)) return;
  const int64_t num_experts = p.whole_shape(R::kLogits).row_size();
  const TensorId own = b.emit(ExpertCounts{.num_experts = num_experts}, {b.last_outputs()[R::kExperts]});
  const TensorId counts = p.convert(own, p.term_of_sum(), {});
  p.set_output(R::kAux, b.emit(RouterLoss{op}, {logits, counts}), p.term_of_sum());
}

Status infer(const RouterGrad& op, Inference& io) {
  using G = RouterGrad;
  RETURN_IF_ERROR(check_logits(io, G::kLogits));
  RETURN_IF_ERROR(check_attributes(op, io, G::kLogits));
  const TensorType logits = io.input(G::kLogits);
  const Shape chosen = logits.shape.with(-1, op.top_k);
  RETURN_IF_ERROR(io.need_like(G::kProbs, G::kLogits));
  RETURN_IF_ERROR(io.need_shape(G::kExperts, chosen, "top_k experts per token"));
  RETURN_IF_ERROR(io.need_dtype(G::kExperts, DType::kI32));
  RETURN_IF_ERROR(io.need_shape(G::kGates, chosen, "top_k gates per token"));
  RETURN_IF_ERROR(io.need_dtype(G::kGates, logits.dtype));
  if (io.has_input(G::kDgates)) RETURN_IF_ERROR(io.need_like(G::kDgates, G::kGates));
  if (io.has_input(G::kDaux)) {
    RETURN_IF_ERROR(io.need_shape(G::kDaux, {}, "a scalar"));
    RETURN_IF_ERROR(io.need_dtype(G::kDaux, logits.dtype));
  }
  io.set_output(G::kDlogits, logits.shape, logits.dtype);
  return ok_status();
}

Cost cost(const RouterGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(RouterGrad::kInputs);
  cost.flops = num_logits(shapes, RouterGrad::kLogits) * 12.0;
  return cost;
}

Status infer(const ExpertCounts& op, Inference& io) {
  RETURN_IF_ERROR(io.need_dtype(ExpertCounts::kExperts, DType::kI32));
  if (op.num_experts < 1)
    return io.fail_attribute("num_experts", fmt::format("got {}; needed at least 1", op.num_experts));
  io.set_output(ExpertCounts::kCounts, {op.num_experts}, DType::kI64);
  return ok_status();
}

Cost cost(const ExpertCounts&, const OpShapes& shapes) { return shapes.memory_traffic(ExpertCounts::kInputs); }

Status infer(const RouterLoss& op, Inference& io) {
  RETURN_IF_ERROR(check_loss_operands(op, io, RouterLoss::kLogits, RouterLoss::kCounts));
  io.set_output(RouterLoss::kAux, {}, io.input(RouterLoss::kLogits).dtype);
  return ok_status();
}

Cost cost(const RouterLoss&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(RouterLoss::kInputs);
  cost.flops = num_logits(shapes, RouterLoss::kLogits) * 9.0;
  return cost;
}

void adjoint(const RouterLoss& op, Adjoint& a) {
  using L = RouterLoss;
  if (a.wants(L::kLogits))
    a.contribute(L::kLogits, a.builder().emit(RouterLossGrad{op},
                                              {a.output_grad(L::kAux), a.input(L::kLogits), a.input(L::kCounts)}));
}

void partition(const RouterLoss&, Partition& p) {
  p.fail("router_loss: it is what the router becomes when it is cut; a program is cut once");
}

Status infer(const RouterLossGrad& op, Inference& io) {
  using G = RouterLossGrad;
  RETURN_IF_ERROR(check_loss_operands(op, io, G::kLogits, G::kCounts));
  const TensorType logits = io.input(G::kLogits);
  RETURN_IF_ERROR(io.need_shape(G::kDaux, {}, "a scalar"));
  RETURN_IF_ERROR(io.need_dtype(G::kDaux, logits.dtype));
  io.set_output(G::kDlogits, logits.shape, logits.dtype);
  return ok_status();
}

Cost cost(const RouterLossGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(RouterLossGrad::kInputs);
  cost.flops = num_logits(shapes, RouterLossGrad::kLogits) * 20.0;
  return cost;
}

}  // namespace colossus
