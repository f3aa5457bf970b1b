#include "ops/dropout/dropout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "program/builder.h"

namespace colossus {

DropoutMask::DropoutMask(const Dropout& op, int64_t seed, int64_t step)
    : key{.seed = static_cast<uint64_t>(seed),
          .purpose = RngPurpose::kDropout,
          .step = static_cast<uint64_t>(op.stream) << 32 | (static_cast<uint64_t>(step) & 0xFFFFFFFF)},
      threshold(static_cast<uint32_t>(std::min(std::round(op.rate * 0x1p32), 0x1p32 - 1))),
      scale(1 / (1 - op.rate)) {}

Status infer(const Dropout& op, Inference& io) {
  RETURN_IF_ERROR(io.need_float(Dropout::kX));
  RETURN_IF_ERROR(io.need_rank(Dropout::kX, 3));
  RETURN_IF_ERROR(io.need_shape(Dropout::kRng, {3}, "seed, step, first sample"));
  RETURN_IF_ERROR(io.need_dtype(Dropout::kRng, DType::kI64));
  if (!(op.rate >= 0 && op.rate < 1))
    return io.fail_attribute("rate", fmt::format("got {}; needed a number in [0, 1)", op.rate));
  if (op.stream < 0 || op.stream >= 65536)
    return io.fail_attribute("stream", fmt::format("got {}; needed a number in [0, 65536)", op.stream));
  if (io.has_input(Dropout::kPositions)) {
    const Shape& x = io.shape(Dropout::kX);
    RETURN_IF_ERROR(io.need_shape(Dropout::kPositions, {x[0], x[1]}, "a position for each token of x"));
    RETURN_IF_ERROR(io.need_dtype(Dropout::kPositions, DType::kI32));
    if (op.sequence_tokens < x[1])
      return io.fail_attribute("sequence_tokens",
                               fmt::format("got {}; needed at least the {} tokens of x", op.sequence_tokens, x[1]));
  } else if (op.sequence_tokens != 0) {
    return io.fail_attribute("sequence_tokens", fmt::format("got {}; needed positions with it", op.sequence_tokens));
  }
  io.set_output(Dropout::kY, io.shape(Dropout::kX), io.input(Dropout::kX).dtype);
  return ok_status();
}

Cost cost(const Dropout&, const OpShapes& shapes) {
  // A quarter of a philox block (ten rounds of two products) and a multiplication an element.
  constexpr double kFlopsPerElement = 21;
  Cost cost = shapes.memory_traffic(Dropout::kInputs);
  cost.flops = kFlopsPerElement * static_cast<double>(shapes.shape(Dropout::kX).num_elements());
  return cost;
}

// Linear in x with the mask of the forward pass.
void adjoint(const Dropout& op, Adjoint& a) {
  if (!a.wants(Dropout::kX)) return;
  a.contribute(Dropout::kX, a.builder().emit(op, {a.output_grad(Dropout::kY), a.input(Dropout::kRng),
                                                  a.input(Dropout::kPositions)}));
}

void partition(const Dropout& op, Partition& p) {
  const Shape& x = p.whole_shape(Dropout::kX);
  const Placement& tokens = p.tokens();
  Dropout part = op;
  TensorId positions = p.input(Dropout::kPositions, tokens);
  if (!positions && (positions = p.positions({x[0], x[1]}, tokens))) part.sequence_tokens = x[1];
  emit_part(p, part, {p.input(Dropout::kX, tokens), p.input(Dropout::kRng, {}), positions}, {tokens});
}

}  // namespace colossus
