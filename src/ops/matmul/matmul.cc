#include "ops/matmul/matmul.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

struct Sizes {
  int64_t m = 0, n = 0, k = 0;
};

// Of operands that infer() has accepted.
Sizes sizes_of(const Matmul& op, const OpShapes& shapes) {
  const Shape& a = shapes.shape(Matmul::kA);
  const Shape& b = shapes.shape(Matmul::kB);
  if (op.transpose_a) return {a.row_size(), b.row_size(), a.num_rows()};
  return {a.num_rows(), op.transpose_b ? b[0] : b[1], a.row_size()};
}

Status check_factors(const Matmul& op, const Inference& io) {
  RETURN_IF_ERROR(io.need_float(Matmul::kA));
  RETURN_IF_ERROR(io.need_float(Matmul::kB));
  if (io.shape(Matmul::kA).rank() < 1) return io.fail(Matmul::kA, "at least 1 dimension");
  const bool a_is_f64 = io.input(Matmul::kA).dtype == DType::kF64;
  if (a_is_f64 != (io.input(Matmul::kB).dtype == DType::kF64))
    return io.fail(Matmul::kB, "f64 beside an f64 a, and only there");
  if (a_is_f64 != (op.dtype == DType::kF64) || !is_float(op.dtype))
    return io.fail_attribute(
        "dtype", fmt::format("got {}; needed f64 for f64 operands, else f32 or bf16", dtype_name(op.dtype)));
  if (op.transpose_a) {
    if (op.transpose_b)
      return io.fail_attribute("transpose_b", "got both transpose_a and transpose_b; needed at most one");
    if (io.shape(Matmul::kB).rank() < 1) return io.fail(Matmul::kB, "at least 1 dimension");
    if (io.shape(Matmul::kA).num_rows() != io.shape(Matmul::kB).num_rows())
      return io.fail(Matmul::kB, fmt::format("{} rows, as a has", io.shape(Matmul::kA).num_rows()));
    return ok_status();
  }
  RETURN_IF_ERROR(io.need_rank(Matmul::kB, 2));
  return io.need_size(Matmul::kB, op.transpose_b ? 1 : 0, io.shape(Matmul::kA).row_size(), "the columns of a");
}

Status infer_into(const Matmul& op, const Inference& io, const Sizes& sizes, DType statistics) {
  const Shape& into = io.shape(Matmul::kInto);
  if (into.num_rows() != sizes.m || into.row_size() != sizes.n)
    return io.fail(Matmul::kInto, fmt::format("{} rows of {}, the product's", sizes.m, sizes.n));
  RETURN_IF_ERROR(io.need_dtype(Matmul::kInto, statistics));
  if (io.has_input(Matmul::kBias)) return io.fail(Matmul::kBias, "no bias when the product is added into a tensor");
  if (io.has_input(Matmul::kAddend))
    return io.fail(Matmul::kAddend, "no addend when the product is added into a tensor");
  if (op.activation != ActivationKind::kNone)
    return io.fail_attribute("activation", "needed none when the product is added into a tensor");
  return ok_status();
}

bool is_parameter(Adjoint& a, int i) { return a.builder().tensor(a.input(i)).role == Role::kParameter; }

// The gradient of factor i is lhs @ rhs under `product`: into the parameter's accumulator, or one contribution more.
void give_factor(Adjoint& a, int i, Matmul product, TensorId lhs, TensorId rhs) {
  if (is_parameter(a, i)) {
    a.builder().emit(product, {lhs, rhs, {}, {}, a.accumulator(i)});
    return;
  }
  product.dtype = a.builder().tensor(a.input(i)).type.dtype;
  a.contribute(i, a.builder().emit(product, {lhs, rhs}));
}

void adjoint_of_factors(const Matmul& op, Adjoint& a, TensorId dy) {
  const TensorId x = a.input(Matmul::kA);
  const TensorId w = a.input(Matmul::kB);
  const Matmul plain{.alpha = op.alpha, .dtype = op.dtype};
  Matmul with_b = plain;  // ... @ b^T
  with_b.transpose_b = true;
  Matmul with_a = plain;  // a^T @ ...
  with_a.transpose_a = true;
  if (op.transpose_a) {  // y = x^T w
    if (a.wants(Matmul::kA)) give_factor(a, Matmul::kA, with_b, w, dy);
    if (a.wants(Matmul::kB)) give_factor(a, Matmul::kB, plain, x, dy);
  } else if (op.transpose_b) {  // y = x w^T
    if (a.wants(Matmul::kA)) give_factor(a, Matmul::kA, plain, dy, w);
    if (a.wants(Matmul::kB)) give_factor(a, Matmul::kB, with_a, dy, x);
  } else {
    if (a.wants(Matmul::kA)) give_factor(a, Matmul::kA, with_b, dy, w);
    if (a.wants(Matmul::kB)) give_factor(a, Matmul::kB, with_a, x, dy);
  }
}

}  // namespace

Status infer(const Matmul& op, Inference& io) {
  RETURN_IF_ERROR(check_factors(op, io));
  const Sizes sizes = sizes_of(op, io);
  const DType statistics = statistics_dtype(op.dtype);
  if (io.has_input(Matmul::kInto)) return infer_into(op, io, sizes, statistics);
  if (io.has_input(Matmul::kBias)) {
    RETURN_IF_ERROR(io.need_shape(Matmul::kBias, Shape{sizes.n}, "the columns of the product"));
    RETURN_IF_ERROR(io.need_dtype(Matmul::kBias, statistics));
  }
  const Shape shape = op.transpose_a ? Shape{sizes.m, sizes.n} : io.shape(Matmul::kA).with(-1, sizes.n);
  if (io.has_input(Matmul::kAddend)) {
    RETURN_IF_ERROR(io.need_shape(Matmul::kAddend, shape, "the shape of y"));
    RETURN_IF_ERROR(io.need_dtype(Matmul::kAddend, op.dtype));
  }
  io.set_output(Matmul::kY, shape, op.dtype);
  return ok_status();
}

Cost cost(const Matmul& op, const OpShapes& shapes) {
  const Sizes sizes = sizes_of(op, shapes);
  Cost cost = shapes.memory_traffic(Matmul::kInputs);
  cost.flops = 2.0 * static_cast<double>(sizes.m) * static_cast<double>(sizes.n) * static_cast<double>(sizes.k);
  return cost;
}

void adjoint(const Matmul& op, Adjoint& a) {
  if (op.activation != ActivationKind::kNone)
    return a.fail(
        fmt::format("matmul.activation: got {}; needed none: the adjoint wants the activation as an operation "
                    "of its own (differentiate before fuse)",
                    activation_name(op.activation)));
  if (a.input(Matmul::kInto)) return a.fail("matmul.into: adding into a tensor has no adjoint");
  const TensorId dy = a.output_grad(Matmul::kY);
  adjoint_of_factors(op, a, dy);
  if (a.input(Matmul::kBias) && a.wants(Matmul::kBias))
    a.builder().emit(BiasGrad{}, {dy, a.accumulator(Matmul::kBias)});
  if (a.input(Matmul::kAddend) && a.wants(Matmul::kAddend)) a.contribute(Matmul::kAddend, dy);
}

void partition(const Matmul& op, Partition& p) {
  using M = Matmul;
  if (op.transpose_a) return p.fail("matmul.transpose_a: got a product over the tokens; needed a weight as b");
  const Placement& tokens = p.tokens();
  const Placement::OnAxis* cut = p.placement(M::kB).find(MeshAxis::kTensor);
  if (!cut)
    return emit_part(
        p, op, {p.input(M::kA, tokens), p.input(M::kB), p.input(M::kBias, {}), p.input(M::kAddend, tokens)}, {tokens});
  const int last = p.whole_shape(M::kA).rank() - 1;
  const Placement whole = tokens.without(MeshAxis::kTensor), columns = whole.cut(MeshAxis::kTensor, last);
  if (cut->dimension == (op.transpose_b ? 0 : 1))
    return emit_part(p, op,
                     {p.input(M::kA, whole), p.input(M::kB), p.input(M::kBias, Placement().cut(MeshAxis::kTensor, 0)),
                      p.input(M::kAddend, columns)},
                     {columns});
  const TensorId term = p.builder().emit(op, {p.input(M::kA, columns), p.input(M::kB)});
  TensorId y = p.convert(term, whole.partial(MeshAxis::kTensor), tokens);
  if (const TensorId bias = p.input(M::kBias, {})) y = p.builder().emit(AddBias{}, {y, bias});
  if (const TensorId addend = p.input(M::kAddend, tokens)) y = p.builder().emit(Add{}, {y, addend});
  p.set_output(M::kY, y, tokens);
}

Status infer(const BiasGrad&, Inference& io) {
  RETURN_IF_ERROR(io.need_float(BiasGrad::kDy));
  RETURN_IF_ERROR(io.need_shape(BiasGrad::kDbias, Shape{io.shape(BiasGrad::kDy).row_size()}, "the columns of dy"));
  return io.need_dtype(BiasGrad::kDbias, statistics_dtype(io.input(BiasGrad::kDy).dtype));
}

Cost cost(const BiasGrad&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(BiasGrad::kInputs);
  cost.flops = static_cast<double>(shapes.shape(BiasGrad::kDy).num_elements());
  return cost;
}

Status infer(const AddBias&, Inference& io) {
  RETURN_IF_ERROR(io.need_float(AddBias::kX));
  if (io.shape(AddBias::kX).rank() < 1) return io.fail(AddBias::kX, "at least 1 dimension");
  RETURN_IF_ERROR(io.need_of_columns(AddBias::kBias, AddBias::kX, "one bias for each column of x"));
  io.set_output(AddBias::kY, io.shape(AddBias::kX), io.input(AddBias::kX).dtype);
  return ok_status();
}

Cost cost(const AddBias&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AddBias::kInputs);
  cost.flops = static_cast<double>(shapes.shape(AddBias::kX).num_elements());
  return cost;
}

void adjoint(const AddBias&, Adjoint& a) {
  const TensorId dy = a.output_grad(AddBias::kY);
  if (a.wants(AddBias::kX)) a.contribute(AddBias::kX, dy);
  if (a.wants(AddBias::kBias)) a.builder().emit(BiasGrad{}, {dy, a.accumulator(AddBias::kBias)});
}

void partition(const AddBias& op, Partition& p) {
  emit_part(p, op, {p.input(AddBias::kX, p.tokens()), p.input(AddBias::kBias, {})}, {p.tokens()});
}

}  // namespace colossus
