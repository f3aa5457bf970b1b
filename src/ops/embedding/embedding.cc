#include "ops/embedding/embedding.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status need_table(const Inference& io, int i, DType activations) {
  RETURN_IF_ERROR(io.need_rank(i, 2));
  RETURN_IF_ERROR(io.need_weight(i, activations));
  return io.shape(i)[0] > 0 ? ok_status() : io.fail(i, "at least 1 row");
}

Status need_indices(const Inference& io, int i, const Shape& shape, std::string_view why) {
  RETURN_IF_ERROR(io.need_shape(i, shape, why));
  return io.need_dtype(i, DType::kI32);
}

// The position table, if any, and the rows asked of it.
Status need_positions(const Inference& io, int table, int positions, const Shape& tokens, int64_t width,
                      DType activations) {
  if (!io.has_input(table))
    return io.has_input(positions) ? io.fail(positions, "nothing without a position table") : ok_status();
  RETURN_IF_ERROR(need_table(io, table, activations));
  RETURN_IF_ERROR(io.need_size(table, 1, width, "the columns of the token table"));
  if (io.has_input(positions)) return need_indices(io, positions, tokens, "a position for each token");
  return io.shape(table)[0] >= tokens[1] ? ok_status()
                                         : io.fail(table, fmt::format("at least {} rows, one a position", tokens[1]));
}

}  // namespace

Status infer(const Embedding& op, Inference& io) {
  using E = Embedding;
  if (!is_float(op.dtype))
    return io.fail_attribute("dtype", fmt::format("got {}; needed f32, bf16 or f64", dtype_name(op.dtype)));
  RETURN_IF_ERROR(need_table(io, E::kTable, op.dtype));
  RETURN_IF_ERROR(io.need_rank(E::kTokens, 2));
  const Shape& tokens = io.shape(E::kTokens);
  RETURN_IF_ERROR(io.need_dtype(E::kTokens, DType::kI32));
  const int64_t width = io.shape(E::kTable)[1];
  RETURN_IF_ERROR(need_positions(io, E::kPositionTable, E::kPositions, tokens, width, op.dtype));
  io.set_output(E::kY, {tokens[0], tokens[1], width}, op.dtype);
  return ok_status();
}

Cost cost(const Embedding& op, const OpShapes& shapes) {
  using E = Embedding;
  const auto elements = static_cast<double>(shapes.out_shape(E::kY).num_elements());
  Cost cost = shapes.memory_traffic(E::kInputs);
  cost.flops = op.scale == 1 ? 0 : elements;
  // Of the tables only the rows asked for are read.
  const auto read_rows_only = [&](int table) {
    const TensorType& type = shapes.input(table);
    cost.bytes_read += elements * static_cast<double>(dtype_bytes(type.dtype)) - static_cast<double>(type.num_bytes());
  };
  read_rows_only(E::kTable);
  if (shapes.has_input(E::kPositionTable)) {
    read_rows_only(E::kPositionTable);
    cost.flops += elements;
  }
  return cost;
}

void adjoint(const Embedding& op, Adjoint& a) {
  using E = Embedding;
  const bool positions = static_cast<bool>(a.input(E::kPositionTable)) && a.wants(E::kPositionTable);
  if (!a.wants(E::kTable)) {
    if (positions) a.fail("embedding.position_table has a gradient only together with embedding.table");
    return;
  }
  a.builder().emit(
      EmbeddingGrad{.scale = op.scale},
      {a.output_grad(E::kY), a.input(E::kTokens), a.accumulator(E::kTable),
       positions ? a.accumulator(E::kPositionTable) : TensorId{}, positions ? a.input(E::kPositions) : TensorId{}});
}

void partition(const Embedding& op, Partition& p) {
  using E = Embedding;
  const Placement& tokens = p.tokens();
  const TensorId position_table = p.input(E::kPositionTable, {});
  TensorId positions = p.input(E::kPositions, tokens);
  if (position_table && !positions) positions = p.positions(p.whole_shape(E::kTokens), tokens);
  emit_part(p, op, {p.input(E::kTable, {}), p.input(E::kTokens, tokens), position_table, positions}, {tokens});
}

Status infer(const EmbeddingGrad&, Inference& io) {
  using E = EmbeddingGrad;
  RETURN_IF_ERROR(io.need_float(E::kDy));
  RETURN_IF_ERROR(io.need_rank(E::kDy, 3));
  const Shape& dy = io.shape(E::kDy);
  const Shape tokens = {dy[0], dy[1]};
  RETURN_IF_ERROR(need_indices(io, E::kTokens, tokens, "a token for each row of dy"));
  RETURN_IF_ERROR(need_table(io, E::kDtable, io.input(E::kDy).dtype));
  for (const int gradient : {E::kDtable, E::kDpositionTable})
    if (io.has_input(gradient)) RETURN_IF_ERROR(io.need_dtype(gradient, statistics_dtype(io.input(E::kDy).dtype)));
  RETURN_IF_ERROR(io.need_size(E::kDtable, 1, dy[2], "the columns of dy"));
  return need_positions(io, E::kDpositionTable, E::kPositions, tokens, dy[2], io.input(E::kDy).dtype);
}

Cost cost(const EmbeddingGrad& op, const OpShapes& shapes) {
  using E = EmbeddingGrad;
  const auto elements = static_cast<double>(shapes.shape(E::kDy).num_elements());
  Cost cost = shapes.memory_traffic(E::kInputs);
  cost.flops = op.scale == 1 ? elements : 2 * elements;
  // Of the tables only the rows asked for are read and written.
  const auto touch_rows_only = [&](int table) {
    const TensorType& type = shapes.input(table);
    const double change =
        elements * static_cast<double>(dtype_bytes(type.dtype)) - static_cast<double>(type.num_bytes());
    cost.bytes_read += change;
    cost.bytes_written += change;
  };
  touch_rows_only(E::kDtable);
  if (shapes.has_input(E::kDpositionTable)) {
    touch_rows_only(E::kDpositionTable);
    cost.flops += elements;
  }
  return cost;
}

}  // namespace colossus
