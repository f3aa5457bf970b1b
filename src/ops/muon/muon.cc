#include "ops/muon/muon.h"

#include <algorithm>

#include <fmt/format.h>

namespace colossus {

Status infer(const Muon& op, Inference& io) {
  if (!(op.momentum >= 0 && op.momentum < 1))
    return io.fail_attribute("momentum", fmt::format("got {}; needed 0 <= momentum < 1", op.momentum));
  if (op.iterations < 0) return io.fail_attribute("iterations", fmt::format("got {}; needed 0 or more", op.iterations));
  if (!(op.weight_decay >= 0))
    return io.fail_attribute("weight_decay", fmt::format("got {}; needed 0 or more", op.weight_decay));
  const TensorType& param = io.input(Muon::kParam);
  if (param.shape.rank() != 2 && param.shape.rank() != 3)
    return io.fail(Muon::kParam, "a matrix (K, N) or several (E, K, N)");
  if (param.dtype != DType::kF32 && param.dtype != DType::kF64)
    return io.fail(Muon::kParam, "f32 (or f64 in an fp64 program)");
  for (const int i : {Muon::kGrad, Muon::kMomentumBuffer}) RETURN_IF_ERROR(io.need_like(i, Muon::kParam));
  for (const int i : {Muon::kLr, Muon::kScale}) {
    RETURN_IF_ERROR(io.need_shape(i, Shape{}, "a scalar"));
    RETURN_IF_ERROR(io.need_dtype(i, param.dtype));
  }
  return ok_status();
}

Cost cost(const Muon& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Muon::kInputs);
  const Shape& shape = shapes.shape(Muon::kParam);
  const auto elements = static_cast<double>(shape.num_elements());
  const auto side = static_cast<double>(std::min(shape[-1], shape[-2]));
  const double matrices = shape.rank() == 3 ? static_cast<double>(shape[0]) : 1;
  // An iteration: the Gram matrix and the product with X, both `side` multiply-adds an element, and A * A.
  const double iteration = 2 * (2 * elements * side + matrices * side * side * side);
  cost.flops = static_cast<double>(op.iterations) * iteration + 12 * elements;
  return cost;
}

}  // namespace colossus
