#include "ops/adamw/adamw.h"

#include <fmt/format.h>

namespace colossus {

Status infer(const AdamW& op, Inference& io) {
  if (!(op.beta1 >= 0 && op.beta1 < 1))
    return io.fail_attribute("beta1", fmt::format("got {}; needed 0 <= beta1 < 1", op.beta1));
  if (!(op.beta2 >= 0 && op.beta2 < 1))
    return io.fail_attribute("beta2", fmt::format("got {}; needed 0 <= beta2 < 1", op.beta2));
  if (!(op.eps >= 0)) return io.fail_attribute("eps", fmt::format("got {}; needed 0 or more", op.eps));
  if (!(op.weight_decay >= 0))
    return io.fail_attribute("weight_decay", fmt::format("got {}; needed 0 or more", op.weight_decay));
  const DType dtype = io.input(AdamW::kParam).dtype;
  if (dtype != DType::kF32 && dtype != DType::kF64) return io.fail(AdamW::kParam, "f32 (or f64 in an fp64 program)");
  for (const int i : {AdamW::kGrad, AdamW::kM, AdamW::kV}) RETURN_IF_ERROR(io.need_like(i, AdamW::kParam));
  for (const int i : {AdamW::kLr, AdamW::kScale}) {
    RETURN_IF_ERROR(io.need_shape(i, Shape{}, "a scalar"));
    RETURN_IF_ERROR(io.need_dtype(i, dtype));
  }
  RETURN_IF_ERROR(io.need_shape(AdamW::kStep, Shape{}, "a scalar"));
  return io.need_dtype(AdamW::kStep, DType::kI64);
}

Cost cost(const AdamW&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AdamW::kInputs);
  // Scaling, two moving averages, the quotient with its root, the decay and the step.
  cost.flops = 16 * static_cast<double>(shapes.shape(AdamW::kParam).num_elements());
  return cost;
}

}  // namespace colossus
