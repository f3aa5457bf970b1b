#include "ops/head_cross_entropy/head_cross_entropy.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

struct HeadOperands {
  int h, w, targets, num_targets;
};

Status check_operands(const Inference& io, const HeadOperands& at, double softcap) {
  RETURN_IF_ERROR(io.need_float(at.h));
  const TensorType& h = io.input(at.h);
  if (h.shape.rank() < 2) return io.fail(at.h, "at least 2 dimensions");
  RETURN_IF_ERROR(io.need_rank(at.w, 2));
  RETURN_IF_ERROR(io.need_size(at.w, 1, h.shape.row_size(), "the columns of h"));
  RETURN_IF_ERROR(io.need_weight(at.w, h.dtype));
  RETURN_IF_ERROR(io.need_shape(at.targets, h.shape.without_last(), "a target for each row of h"));
  RETURN_IF_ERROR(io.need_dtype(at.targets, DType::kI32));
  if (io.has_input(at.num_targets)) {
    RETURN_IF_ERROR(io.need_shape(at.num_targets, {}, "a scalar"));
    RETURN_IF_ERROR(io.need_dtype(at.num_targets, DType::kI64));
  }
  if (!(softcap >= 0)) return io.fail_attribute("softcap", fmt::format("got {}; needed 0 (none) or more", softcap));
  return ok_status();
}

// One product of h and w.
double product_flops(const OpShapes& shapes, int h, int w) {
  return 2.0 * static_cast<double>(shapes.shape(h).num_elements()) * static_cast<double>(shapes.shape(w)[0]);
}

}  // namespace

Status infer(const HeadCrossEntropy& op, Inference& io) {
  using F = HeadCrossEntropy;
  RETURN_IF_ERROR(check_operands(io, {F::kH, F::kW, F::kTargets, F::kNumTargets}, op.softcap));
  const DType statistics = statistics_dtype(io.input(F::kH).dtype);
  io.set_output(F::kLoss, {}, statistics);
  io.set_output(F::kTokenLoss, io.shape(F::kTargets), statistics);
  return ok_status();
}

Cost cost(const HeadCrossEntropy&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(HeadCrossEntropy::kInputs);
  cost.flops = product_flops(shapes, HeadCrossEntropy::kH, HeadCrossEntropy::kW);
  return cost;
}

void adjoint(const HeadCrossEntropy& op, Adjoint& a) {
  using F = HeadCrossEntropy;
  if (a.output_grad(F::kTokenLoss))
    return a.fail("head_cross_entropy.token_loss: has no adjoint; differentiate through loss");
  if (!a.wants(F::kW)) return a.fail("head_cross_entropy.w: got a tensor that has no gradient; needed a parameter");
  const TensorId dh =
      a.builder().emit(HeadCrossEntropyGrad{op}, {a.output_grad(F::kLoss), a.input(F::kH), a.input(F::kW),
                                                  a.input(F::kTargets), a.accumulator(F::kW), a.input(F::kNumTargets)});
  if (a.wants(F::kH)) a.contribute(F::kH, dh);
}

void partition(const HeadCrossEntropy& op, Partition& p) {
  using F = HeadCrossEntropy;
  const Placement& tokens = p.tokens();
  const TensorId targets = p.input(F::kTargets, tokens);
  TensorId num_targets = p.input(F::kNumTargets, {});
  if (!num_targets && !tokens.axes().empty())
    num_targets = p.convert(p.builder().emit(CountTargets{}, {targets}), p.term_of_sum(), {});
  emit_part(p, op, {p.input(F::kH, tokens), p.input(F::kW, {}), targets, num_targets}, {p.term_of_sum(), tokens});
}

Status infer(const HeadCrossEntropyGrad& op, Inference& io) {
  using G = HeadCrossEntropyGrad;
  RETURN_IF_ERROR(check_operands(io, {G::kH, G::kW, G::kTargets, G::kNumTargets}, op.softcap));
  const TensorType h = io.input(G::kH);
  const DType statistics = statistics_dtype(h.dtype);
  RETURN_IF_ERROR(io.need_shape(G::kDloss, {}, "a scalar"));
  RETURN_IF_ERROR(io.need_dtype(G::kDloss, statistics));
  RETURN_IF_ERROR(io.need_shape(G::kDw, io.shape(G::kW), "the shape of w"));
  RETURN_IF_ERROR(io.need_dtype(G::kDw, statistics));
  io.set_output(G::kDh, h.shape, h.dtype);
  io.set_output(G::kLoss, {}, statistics);
  io.set_output(G::kTokenLoss, io.shape(G::kTargets), statistics);
  return ok_status();
}

Cost cost(const HeadCrossEntropyGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(HeadCrossEntropyGrad::kInputs);
  cost.flops = 3 * product_flops(shapes, HeadCrossEntropyGrad::kH, HeadCrossEntropyGrad::kW);
  return cost;
}

Status infer(const CountTargets&, Inference& io) {
  RETURN_IF_ERROR(io.need_dtype(CountTargets::kTargets, DType::kI32));
  io.set_output(CountTargets::kNumTargets, {}, DType::kI64);
  return ok_status();
}

Cost cost(const CountTargets&, const OpShapes& shapes) { return shapes.memory_traffic(CountTargets::kInputs); }

}  // namespace colossus
