#include "ops/grouped_matmul/grouped_matmul.h"

#include <fmt/format.h>

#include <algorithm>

#include "program/builder.h"

namespace colossus {
namespace {

Status check_offsets(const Inference& io, int offsets, int64_t num_experts) {
  RETURN_IF_ERROR(io.need_shape(offsets, Shape{num_experts + 1}, "one more than there are experts"));
  return io.need_dtype(offsets, DType::kI32);
}

double used_elements(const Shape& rows, int64_t room) {
  return static_cast<double>(rows.num_elements()) / static_cast<double>(std::max<int64_t>(1, room));
}

}  // namespace

Status infer(const GroupedMatmul& op, Inference& io) {
  using G = GroupedMatmul;
  RETURN_IF_ERROR(io.need_rank(G::kA, 2));
  RETURN_IF_ERROR(io.need_rank(G::kB, 3));
  RETURN_IF_ERROR(io.need_float(G::kA));
  RETURN_IF_ERROR(io.need_weight(G::kB, io.input(G::kA).dtype));
  const Shape& b = io.shape(G::kB);
  RETURN_IF_ERROR(io.need_size(G::kB, op.transpose_b ? 2 : 1, io.shape(G::kA)[1], "the columns of a"));
  RETURN_IF_ERROR(check_offsets(io, G::kOffsets, b[0]));
  const Shape shape{io.shape(G::kA)[0], op.transpose_b ? b[1] : b[2]};
  if (io.has_input(G::kAddend)) {
    RETURN_IF_ERROR(io.need_shape(G::kAddend, shape, "the shape of y"));
    RETURN_IF_ERROR(io.need_dtype(G::kAddend, io.input(G::kA).dtype));
  }
  io.set_output(G::kY, shape, io.input(G::kA).dtype);
  return ok_status();
}

Cost cost(const GroupedMatmul& op, const OpShapes& shapes) {
  const Shape& a = shapes.shape(GroupedMatmul::kA);
  const Shape& b = shapes.shape(GroupedMatmul::kB);
  Cost cost = shapes.memory_traffic(GroupedMatmul::kInputs);
  cost.flops = 2.0 * used_elements(a, op.room) * static_cast<double>(op.transpose_b ? b[1] : b[2]);
  return cost;
}

void adjoint(const GroupedMatmul& op, Adjoint& a) {
  using G = GroupedMatmul;
  const TensorId x = a.input(G::kA);
  const TensorId offsets = a.input(G::kOffsets);
  const TensorId dy = a.output_grad(G::kY);
  if (a.wants(G::kA))
    a.contribute(G::kA,
                 a.builder().emit(G{.transpose_b = !op.transpose_b, .room = op.room}, {dy, a.input(G::kB), offsets}));
  if (a.wants(G::kB)) {
    // Of (E, N, K) weights the gradient is dy^T @ a.
    const TensorId left = op.transpose_b ? dy : x;
    const TensorId right = op.transpose_b ? x : dy;
    a.builder().emit(GroupedMatmulGradWeight{.room = op.room}, {left, right, offsets, a.accumulator(G::kB)});
  }
  if (a.input(G::kAddend) && a.wants(G::kAddend)) a.contribute(G::kAddend, dy);
}

void partition(const GroupedMatmul& op, Partition& p) {
  using G = GroupedMatmul;
  constexpr MeshAxis kWidth = MeshAxis::kExpertTensor;
  const Placement a = p.placement(G::kA);
  const Placement::OnAxis* cut = p.placement(G::kB).find(kWidth);
  Placement y = a.without(kWidth);
  bool fits = !a.find(kWidth);
  if (cut && cut->dimension == (op.transpose_b ? 1 : 2)) {
    y = y.cut(kWidth, 1);
  } else if (cut) {
    fits = a == y.cut(kWidth, 1);
    y = y.partial(kWidth);
  }
  if (!fits)
    return p.fail(fmt::format("grouped_matmul.a: got rows that are {} beside a weight that is {}", a.to_string(),
                              p.placement(G::kB).to_string()));
  GroupedMatmul part = op;
  if (a.find(MeshAxis::kExpert)) part.room = p.size(MeshAxis::kExpert);
  emit_part(p, part, {p.input(G::kA), p.input(G::kB), p.input(G::kOffsets), p.input(G::kAddend, y)}, {y});
}

Status infer(const GroupedMatmulGradWeight&, Inference& io) {
  using G = GroupedMatmulGradWeight;
  RETURN_IF_ERROR(io.need_rank(G::kA, 2));
  RETURN_IF_ERROR(io.need_rank(G::kDy, 2));
  RETURN_IF_ERROR(io.need_rank(G::kDb, 3));
  RETURN_IF_ERROR(io.need_float(G::kA));
  RETURN_IF_ERROR(io.need_dtype(G::kDb, statistics_dtype(io.input(G::kA).dtype)));
  RETURN_IF_ERROR(io.need_dtype(G::kDy, io.input(G::kA).dtype));
  RETURN_IF_ERROR(io.need_size(G::kDy, 0, io.shape(G::kA)[0], "the rows of a"));
  RETURN_IF_ERROR(io.need_size(G::kDb, 1, io.shape(G::kA)[1], "the columns of a"));
  RETURN_IF_ERROR(io.need_size(G::kDb, 2, io.shape(G::kDy)[1], "the columns of dy"));
  return check_offsets(io, G::kOffsets, io.shape(G::kDb)[0]);
}

Cost cost(const GroupedMatmulGradWeight& op, const OpShapes& shapes) {
  using G = GroupedMatmulGradWeight;
  Cost cost = shapes.memory_traffic(G::kInputs);
  cost.flops = 2.0 * used_elements(shapes.shape(G::kA), op.room) * static_cast<double>(shapes.shape(G::kDy)[1]);
  return cost;
}

}  // namespace colossus
