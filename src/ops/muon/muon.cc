#include "ops/muon/muon.h"

#include <algorithm>

#include <fmt/format.h>

namespace colossus {

Status infer(const MuonMomentum& op, Inference& io) {
  using M = MuonMomentum;
  if (!(op.momentum >= 0 && op.momentum < 1))
    return io.fail_attribute("momentum", fmt::format("got {}; needed 0 <= momentum < 1", op.momentum));
  const TensorType& grad = io.input(M::kGrad);
  if (grad.dtype != DType::kF32 && grad.dtype != DType::kF64)
    return io.fail(M::kGrad, "f32 (or f64 in an fp64 program)");
  RETURN_IF_ERROR(io.need_like(M::kMomentumBuffer, M::kGrad));
  RETURN_IF_ERROR(io.need_shape(M::kScale, Shape{}, "a scalar"));
  RETURN_IF_ERROR(io.need_dtype(M::kScale, grad.dtype));
  io.set_output(M::kDirection, grad.shape, grad.dtype);
  return ok_status();
}

Cost cost(const MuonMomentum&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(MuonMomentum::kInputs);
  cost.flops = 5 * static_cast<double>(shapes.shape(MuonMomentum::kGrad).num_elements());
  return cost;
}

Status infer(const Muon& op, Inference& io) {
  if (op.iterations < 0) return io.fail_attribute("iterations", fmt::format("got {}; needed 0 or more", op.iterations));
  if (!(op.weight_decay >= 0))
    return io.fail_attribute("weight_decay", fmt::format("got {}; needed 0 or more", op.weight_decay));
  if (op.parts < 1 || op.part < 0 || op.part >= op.parts)
    return io.fail_attribute("part", fmt::format("got part {} of {}", op.part, op.parts));
  const TensorType& param = io.input(Muon::kParam);
  if (param.shape.rank() != 2 && param.shape.rank() != 3)
    return io.fail(Muon::kParam, "a matrix (K, N) or several (E, K, N)");
  if (param.dtype != DType::kF32 && param.dtype != DType::kF64)
    return io.fail(Muon::kParam, "f32 (or f64 in an fp64 program)");
  const int cut = param.shape.rank() - (op.of_columns ? 1 : 2);
  RETURN_IF_ERROR(
      io.need_shape(Muon::kDirection, param.shape.with(cut, param.shape[cut] * op.parts), "whole matrices"));
  RETURN_IF_ERROR(io.need_dtype(Muon::kDirection, param.dtype));
  for (const int i : {Muon::kLr, Muon::kScale}) {
    RETURN_IF_ERROR(io.need_shape(i, Shape{}, "a scalar"));
    RETURN_IF_ERROR(io.need_dtype(i, param.dtype));
  }
  return ok_status();
}

Cost cost(const Muon& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Muon::kInputs);
  const Shape& shape = shapes.shape(Muon::kDirection);
  const auto elements = static_cast<double>(shape.num_elements());
  const auto side = static_cast<double>(std::min(shape[-1], shape[-2]));
  const double matrices = shape.rank() == 3 ? static_cast<double>(shape[0]) : 1;
  // An iteration: the Gram matrix and the product with X, both `side` multiply-adds an element, and A * A.
  const double iteration = 2 * (2 * elements * side + matrices * side * side * side);
  cost.flops = static_cast<double>(op.iterations) * iteration + 7 * elements;
  return cost;
}

}  // namespace colossus
