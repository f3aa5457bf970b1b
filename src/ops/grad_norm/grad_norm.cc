#include "ops/grad_norm/grad_norm.h"

#include <fmt/format.h>

#include <cmath>

#include "base/exact_sum.h"

namespace colossus {
namespace {

// f32, or f64 in an fp64 program.
Status need_statistic(const Inference& io, int i) {
  const DType dtype = io.input(i).dtype;
  return dtype == DType::kF32 || dtype == DType::kF64 ? ok_status() : io.fail(i, "f32 (or f64 in an fp64 program)");
}

}  // namespace

Status infer(const SumOfSquares&, Inference& io) {
  if (io.num_inputs() == 0) return io.fail(SumOfSquares::kGrads, "at least one gradient");
  RETURN_IF_ERROR(need_statistic(io, SumOfSquares::kGrads));
  const DType dtype = io.input(SumOfSquares::kGrads).dtype;
  for (int i = 1; i < io.num_inputs(); ++i)
    if (io.input(i).dtype != dtype) return io.fail(i, fmt::format("{}, like the first gradient", dtype_name(dtype)));
  io.set_output(SumOfSquares::kSum, Shape{ExactSum::kWords}, DType::kI64);
  return ok_status();
}

Cost cost(const SumOfSquares&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(SumOfSquares::kInputs);
  for (int i = 0; i < shapes.num_inputs(); ++i) cost.flops += 2 * static_cast<double>(shapes.shape(i).num_elements());
  return cost;
}

Status infer(const ExactSumValue& op, Inference& io) {
  using E = ExactSumValue;
  if (op.dtype != DType::kF32 && op.dtype != DType::kF64)
    return io.fail_attribute("dtype",
                             fmt::format("got {}; needed f32 (or f64 in an fp64 program)", dtype_name(op.dtype)));
  if (!std::isfinite(op.scale)) return io.fail_attribute("scale", fmt::format("got {}; needed a number", op.scale));
  RETURN_IF_ERROR(io.need_shape(E::kSum, Shape{ExactSum::kWords}, "the words of an exact sum"));
  RETURN_IF_ERROR(io.need_dtype(E::kSum, DType::kI64));
  io.set_output(E::kValue, Shape{}, op.dtype);
  return ok_status();
}

Cost cost(const ExactSumValue&, const OpShapes& shapes) { return shapes.memory_traffic(ExactSumValue::kInputs); }

Status infer(const ClipScale& op, Inference& io) {
  if (!(op.max_norm >= 0))
    return io.fail_attribute("max_norm", fmt::format("got {}; needed 0 (no clipping) or more", op.max_norm));
  RETURN_IF_ERROR(io.need_shape(ClipScale::kNorm, Shape{}, "a scalar"));
  RETURN_IF_ERROR(need_statistic(io, ClipScale::kNorm));
  if (io.has_input(ClipScale::kLoss)) RETURN_IF_ERROR(io.need_like(ClipScale::kLoss, ClipScale::kNorm));
  io.set_output(ClipScale::kScale, Shape{}, io.input(ClipScale::kNorm).dtype);
  return ok_status();
}

Cost cost(const ClipScale&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(ClipScale::kInputs);
  cost.flops = 3;
  return cost;
}

}  // namespace colossus
