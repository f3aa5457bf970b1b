#include "ops/rms_norm/rms_norm.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {

Status infer(const RmsNorm& op, Inference& io) {
  using N = RmsNorm;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_of_columns(N::kScale, N::kX, "one scale for each column of x"));
  if (io.has_input(N::kAddend)) RETURN_IF_ERROR(io.need_like(N::kAddend, N::kX));
  if (!(op.eps >= 0)) return io.fail_attribute("eps", fmt::format("got {}; needed a number not below 0", op.eps));
  const DType dtype = io.input(N::kX).dtype;
  io.set_output(N::kY, io.shape(N::kX), dtype);
  io.set_output(N::kRstd, io.shape(N::kX).without_last(), statistics_dtype(dtype));
  return ok_status();
}

Cost cost(const RmsNorm&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(RmsNorm::kInputs);
  const double per_element = shapes.has_input(RmsNorm::kAddend) ? 5 : 4;
  cost.flops = per_element * static_cast<double>(shapes.shape(RmsNorm::kX).num_elements());
  return cost;
}

void adjoint(const RmsNorm&, Adjoint& a) {
  using N = RmsNorm;
  const TensorId dy = a.output_grad(N::kY);
  if (a.output_grad(N::kRstd)) return a.fail("rms_norm.rstd is a statistic for the adjoint; it has no gradient");
  if (a.input(N::kAddend) && a.wants(N::kAddend)) a.contribute(N::kAddend, dy);
  if (!a.wants(N::kX) && !a.wants(N::kScale)) return;
  const TensorId dx = a.builder().emit(RmsNormGrad{}, {dy, a.input(N::kX), a.input(N::kScale), a.output(N::kRstd),
                                                       a.wants(N::kScale) ? a.accumulator(N::kScale) : TensorId{}});
  if (a.wants(N::kX)) a.contribute(N::kX, dx);
}

void partition(const RmsNorm& op, Partition& p) {
  using N = RmsNorm;
  const Placement& tokens = p.tokens();
  emit_part(p, op, {p.input(N::kX, tokens), p.input(N::kScale, {}), p.input(N::kAddend, tokens)}, {tokens, tokens});
}

Status infer(const RmsNormGrad&, Inference& io) {
  using N = RmsNormGrad;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_like(N::kDy, N::kX));
  RETURN_IF_ERROR(io.need_of_columns(N::kScale, N::kX, "one scale for each column of x"));
  RETURN_IF_ERROR(io.need_of_rows(N::kRstd, N::kX, "one statistic for each row of x"));
  if (io.has_input(N::kDscale)) RETURN_IF_ERROR(io.need_of_columns(N::kDscale, N::kX, "like scale"));
  if (io.has_input(N::kAddend)) RETURN_IF_ERROR(io.need_like(N::kAddend, N::kX));
  io.set_output(N::kDx, io.shape(N::kX), io.input(N::kX).dtype);
  return ok_status();
}

Cost cost(const RmsNormGrad&, const OpShapes& shapes) {
  using N = RmsNormGrad;
  Cost cost = shapes.memory_traffic(N::kInputs);
  const double per_element = 8 + (shapes.has_input(N::kDscale) ? 3 : 0) + (shapes.has_input(N::kAddend) ? 1 : 0);
  cost.flops = per_element * static_cast<double>(shapes.shape(N::kX).num_elements());
  return cost;
}

}  // namespace colossus
