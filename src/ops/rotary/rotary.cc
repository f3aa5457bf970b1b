#include "ops/rotary/rotary.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {

Status infer(const Rotary& op, Inference& io) {
  RETURN_IF_ERROR(io.need_float(Rotary::kX));
  RETURN_IF_ERROR(io.need_rank(Rotary::kX, 3));
  const Shape& x = io.shape(Rotary::kX);
  if (op.head_dim < 2 || op.head_dim % 2 != 0)
    return io.fail_attribute("head_dim", fmt::format("got {}; needed an even number above 0", op.head_dim));
  if (x[2] % op.head_dim != 0)
    return io.fail(Rotary::kX, fmt::format("columns in multiples of head_dim = {}", op.head_dim));
  if (!(op.theta > 0)) return io.fail_attribute("theta", fmt::format("got {}; needed a number above 0", op.theta));
  const RotaryStretch& s = op.stretched;
  if (!(s.factor >= 1) || !(s.low_turns > 0) || !(s.high_turns > s.low_turns) || s.original_tokens < 1)
    return io.fail_attribute("factor", fmt::format("got {} from {} to {} turns of {} tokens; needed 1 or more, rising "
                                                   "turns above 0 and 1 token or more",
                                                   s.factor, s.low_turns, s.high_turns, s.original_tokens));
  if (io.has_input(Rotary::kPositions)) {
    RETURN_IF_ERROR(io.need_shape(Rotary::kPositions, {x[0], x[1]}, "a position for each token of x"));
    RETURN_IF_ERROR(io.need_dtype(Rotary::kPositions, DType::kI32));
  }
  io.set_output(Rotary::kY, x, io.input(Rotary::kX).dtype);
  return ok_status();
}

Cost cost(const Rotary&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Rotary::kInputs);
  cost.flops = 3 * static_cast<double>(shapes.shape(Rotary::kX).num_elements());
  return cost;
}

// The inverse of a rotation is its transpose.
void adjoint(const Rotary& op, Adjoint& a) {
  if (!a.wants(Rotary::kX)) return;
  Rotary back = op;
  back.inverse = !op.inverse;
  a.contribute(Rotary::kX, a.builder().emit(back, {a.output_grad(Rotary::kY), a.input(Rotary::kPositions)}));
}

// Of all tokens some heads, as attention wants them.
void partition(const Rotary& op, Partition& p) {
  const int64_t heads_in_x = p.whole_shape(Rotary::kX)[2] / op.head_dim, ranks = p.size(MeshAxis::kTensor);
  if (heads_in_x % ranks != 0)
    return p.fail(fmt::format("rotary.x: got {} heads; needed a multiple of mesh.tensor = {}", heads_in_x, ranks));
  const Placement rows = p.tokens().without(MeshAxis::kTensor);
  const Placement heads = p.size(MeshAxis::kTensor) > 1 ? rows.cut(MeshAxis::kTensor, 2) : rows;
  const Shape& x = p.whole_shape(Rotary::kX);
  TensorId positions = p.input(Rotary::kPositions, rows);
  if (!positions) positions = p.positions({x[0], x[1]}, rows);
  emit_part(p, op, {p.input(Rotary::kX, heads), positions}, {heads});
}

}  // namespace colossus
