#include "ops/layer_norm/layer_norm.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {

Status infer(const LayerNorm& op, Inference& io) {
  using N = LayerNorm;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_of_columns(N::kScale, N::kX, "one scale for each column of x"));
  if (io.has_input(N::kBias)) RETURN_IF_ERROR(io.need_of_columns(N::kBias, N::kX, "one bias for each column of x"));
  if (!(op.eps >= 0)) return io.fail_attribute("eps", fmt::format("got {}; needed a number not below 0", op.eps));
  const DType dtype = io.input(N::kX).dtype;
  io.set_output(N::kY, io.shape(N::kX), dtype);
  for (int i : {N::kMean, N::kRstd}) io.set_output(i, io.shape(N::kX).without_last(), statistics_dtype(dtype));
  return ok_status();
}

Cost cost(const LayerNorm&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(LayerNorm::kInputs);
  const double per_element = shapes.has_input(LayerNorm::kBias) ? 7 : 6;
  cost.flops = per_element * static_cast<double>(shapes.shape(LayerNorm::kX).num_elements());
  return cost;
}

void adjoint(const LayerNorm&, Adjoint& a) {
  using N = LayerNorm;
  if (a.output_grad(N::kMean) || a.output_grad(N::kRstd))
    return a.fail("layer_norm.mean and rstd are statistics for the adjoint; they have no gradient");
  const bool has_bias = static_cast<bool>(a.input(N::kBias)) && a.wants(N::kBias);
  if (!a.wants(N::kX) && !a.wants(N::kScale) && !has_bias) return;
  const TensorId dx =
      a.builder().emit(LayerNormGrad{}, {a.output_grad(N::kY), a.input(N::kX), a.input(N::kScale), a.output(N::kMean),
                                         a.output(N::kRstd), a.wants(N::kScale) ? a.accumulator(N::kScale) : TensorId{},
                                         has_bias ? a.accumulator(N::kBias) : TensorId{}});
  if (a.wants(N::kX)) a.contribute(N::kX, dx);
}

void partition(const LayerNorm& op, Partition& p) {
  using N = LayerNorm;
  const Placement& tokens = p.tokens();
  emit_part(p, op, {p.input(N::kX, tokens), p.input(N::kScale, {}), p.input(N::kBias, {})}, {tokens, tokens, tokens});
}

Status infer(const LayerNormGrad&, Inference& io) {
  using N = LayerNormGrad;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_like(N::kDy, N::kX));
  RETURN_IF_ERROR(io.need_of_columns(N::kScale, N::kX, "one scale for each column of x"));
  for (int i : {N::kMean, N::kRstd}) RETURN_IF_ERROR(io.need_of_rows(i, N::kX, "one statistic for each row of x"));
  for (int i : {N::kDscale, N::kDbias})
    if (io.has_input(i)) RETURN_IF_ERROR(io.need_of_columns(i, N::kX, "like scale"));
  if (io.has_input(N::kAddend)) RETURN_IF_ERROR(io.need_like(N::kAddend, N::kX));
  io.set_output(N::kDx, io.shape(N::kX), io.input(N::kX).dtype);
  return ok_status();
}

Cost cost(const LayerNormGrad&, const OpShapes& shapes) {
  using N = LayerNormGrad;
  Cost cost = shapes.memory_traffic(N::kInputs);
  double per_element = 11;
  if (shapes.has_input(N::kDscale)) per_element += 2;
  if (shapes.has_input(N::kDbias)) per_element += 1;
  if (shapes.has_input(N::kAddend)) per_element += 1;
  cost.flops = per_element * static_cast<double>(shapes.shape(N::kX).num_elements());
  return cost;
}

}  // namespace colossus
