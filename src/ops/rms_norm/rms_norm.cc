#include "ops/rms_norm/rms_norm.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status need_scale(Inference& io, int scale, int x) {
  const Shape &of_scale = io.shape(scale), &of_x = io.shape(x);
  if (of_scale.rank() != 1 || of_scale[0] < 1 || of_x[-1] % of_scale[0] != 0)
    return io.fail(
        scale, fmt::format("[{}]: one scale for each column of x, or a divisor of it: for each of a head", of_x[-1]));
  return io.need_dtype(scale, statistics_dtype(io.input(x).dtype));
}

// One statistic for each norm.
Shape statistics_shape(const Shape& x, const Shape& scale) {
  if (x[-1] == scale[0]) return x.without_last();
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() /= scale[0];
  return Shape(std::span<const int64_t>(sizes));
}

}  // namespace

Status infer(const RmsNorm& op, Inference& io) {
  using N = RmsNorm;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(need_scale(io, N::kScale, N::kX));
  if (io.has_input(N::kAddend)) RETURN_IF_ERROR(io.need_like(N::kAddend, N::kX));
  if (!(op.eps >= 0)) return io.fail_attribute("eps", fmt::format("got {}; needed a number not below 0", op.eps));
  const DType dtype = io.input(N::kX).dtype;
  io.set_output(N::kY, io.shape(N::kX), dtype);
  io.set_output(N::kRstd, statistics_shape(io.shape(N::kX), io.shape(N::kScale)), statistics_dtype(dtype));
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
  const int64_t width = p.whole_shape(N::kX)[-1], scales = p.whole_shape(N::kScale)[-1];
  if (scales != width) {  // of all tokens some heads, as the rotary embedding wants them
    const int64_t num_heads = width / scales, ranks = p.size(MeshAxis::kTensor);
    if (num_heads % ranks != 0)
      return p.fail(fmt::format("rms_norm.x: got {} heads; needed a multiple of mesh.tensor = {}", num_heads, ranks));
    const Placement rows = tokens.without(MeshAxis::kTensor);
    const int last = p.whole_shape(N::kX).rank() - 1;
    const Placement heads = ranks > 1 ? rows.cut(MeshAxis::kTensor, last) : rows;
    return emit_part(p, op, {p.input(N::kX, heads), p.input(N::kScale, {}), p.input(N::kAddend, heads)},
                     {heads, heads});
  }
  emit_part(p, op, {p.input(N::kX, tokens), p.input(N::kScale, {}), p.input(N::kAddend, tokens)}, {tokens, tokens});
}

Status infer(const RmsNormGrad&, Inference& io) {
  using N = RmsNormGrad;
  RETURN_IF_ERROR(io.need_float(N::kX));
  if (io.shape(N::kX).rank() < 1) return io.fail(N::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_like(N::kDy, N::kX));
  RETURN_IF_ERROR(need_scale(io, N::kScale, N::kX));
  RETURN_IF_ERROR(io.need_shape(N::kRstd, statistics_shape(io.shape(N::kX), io.shape(N::kScale)),
                                "one statistic for each norm of x"));
  RETURN_IF_ERROR(io.need_dtype(N::kRstd, statistics_dtype(io.input(N::kX).dtype)));
  if (io.has_input(N::kDscale)) RETURN_IF_ERROR(io.need_like(N::kDscale, N::kScale));
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
