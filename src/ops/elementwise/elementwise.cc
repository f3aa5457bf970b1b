#include "ops/elementwise/elementwise.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status infer_like_x(Inference& io) {
  RETURN_IF_ERROR(io.need_float(0));
  io.set_output(0, io.shape(0), io.input(0).dtype);
  return ok_status();
}

Cost elementwise_cost(const OpShapes& shapes, std::span<const Operand> inputs, double flops_per_element) {
  Cost cost = shapes.memory_traffic(inputs);
  cost.flops = flops_per_element * static_cast<double>(shapes.out_shape(0).num_elements());
  return cost;
}

Status need_positive_cap(double cap, const Inference& io) {
  return cap > 0 ? ok_status() : io.fail_attribute("cap", fmt::format("got {}; needed a number above 0", cap));
}

// Of a function of x that is not linear, x is never a term of a sum.
Placement settled(const Partition& p, int x) {
  for (const Placement::OnAxis& on_axis : p.placement(x).axes())
    if (on_axis.kind == Placement::Kind::kPartial) return p.tokens();
  return p.placement(x);
}

void partition_like_x(const Op& op, Partition& p, const Placement& x) { emit_part(p, op, {p.input(0, x)}, {x}); }

// A tanh is counted as the dozen operations it takes.
constexpr double kTanhFlops = 12;

}  // namespace

Status infer(const Add&, Inference& io) {
  RETURN_IF_ERROR(io.need_like(Add::kB, Add::kA));
  return infer_like_x(io);
}
Cost cost(const Add&, const OpShapes& shapes) { return elementwise_cost(shapes, Add::kInputs, 1); }
void adjoint(const Add&, Adjoint& a) {
  for (int i : {Add::kA, Add::kB})
    if (a.wants(i)) a.contribute(i, a.output_grad(Add::kY));
}
// Terms of sums are added without being summed up first.
void partition(const Add& op, Partition& p) {
  const Placement y = p.placement(Add::kA) == p.placement(Add::kB) ? p.placement(Add::kA) : p.tokens();
  emit_part(p, op, {p.input(Add::kA, y), p.input(Add::kB, y)}, {y});
}

Status infer(const Scale&, Inference& io) { return infer_like_x(io); }
Cost cost(const Scale&, const OpShapes& shapes) { return elementwise_cost(shapes, Scale::kInputs, 1); }
void adjoint(const Scale& op, Adjoint& a) {
  if (a.wants(Scale::kX)) a.contribute(Scale::kX, a.builder().emit(op, {a.output_grad(Scale::kY)}));
}
void partition(const Scale& op, Partition& p) { partition_like_x(op, p, p.placement(Scale::kX)); }

Status infer(const SoftCap& op, Inference& io) {
  RETURN_IF_ERROR(need_positive_cap(op.cap, io));
  return infer_like_x(io);
}
Cost cost(const SoftCap&, const OpShapes& shapes) { return elementwise_cost(shapes, SoftCap::kInputs, kTanhFlops + 2); }
void adjoint(const SoftCap& op, Adjoint& a) {
  if (!a.wants(SoftCap::kX)) return;
  a.contribute(SoftCap::kX,
               a.builder().emit(SoftCapGrad{.cap = op.cap}, {a.output_grad(SoftCap::kY), a.input(SoftCap::kX)}));
}
void partition(const SoftCap& op, Partition& p) { partition_like_x(op, p, settled(p, SoftCap::kX)); }

Status infer(const SoftCapGrad& op, Inference& io) {
  RETURN_IF_ERROR(need_positive_cap(op.cap, io));
  RETURN_IF_ERROR(io.need_like(SoftCapGrad::kX, SoftCapGrad::kDy));
  return infer_like_x(io);
}
Cost cost(const SoftCapGrad&, const OpShapes& shapes) {
  return elementwise_cost(shapes, SoftCapGrad::kInputs, kTanhFlops + 4);
}

Status infer(const Cast& op, Inference& io) {
  RETURN_IF_ERROR(io.need_float(Cast::kX));
  if (!is_float(op.dtype))
    return io.fail_attribute("dtype", fmt::format("got {}; needed f32, bf16 or f64", dtype_name(op.dtype)));
  io.set_output(Cast::kY, io.shape(Cast::kX), op.dtype);
  return ok_status();
}
Cost cost(const Cast&, const OpShapes& shapes) { return elementwise_cost(shapes, Cast::kInputs, 0); }
void adjoint(const Cast&, Adjoint& a) {
  if (!a.wants(Cast::kX)) return;
  const DType back = a.builder().tensor(a.input(Cast::kX)).type.dtype;
  a.contribute(Cast::kX, a.builder().emit(Cast{.dtype = back}, {a.output_grad(Cast::kY)}));
}
void partition(const Cast& op, Partition& p) { partition_like_x(op, p, settled(p, Cast::kX)); }

}  // namespace colossus
