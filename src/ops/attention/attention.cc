#include "ops/attention/attention.h"

#include <algorithm>

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

Status check_attributes(const AttentionAttributes& op, const Inference& io) {
  if (op.num_heads < 1) return io.fail_attribute("num_heads", fmt::format("got {}; needed at least 1", op.num_heads));
  if (op.num_kv_heads < 1 || op.num_heads % op.num_kv_heads != 0) {
    return io.fail_attribute("num_kv_heads",
                             fmt::format("got {}; needed a divisor of num_heads = {}", op.num_kv_heads, op.num_heads));
  }
  if (op.head_dim < 1) return io.fail_attribute("head_dim", fmt::format("got {}; needed at least 1", op.head_dim));
  if (!(op.softcap >= 0))
    return io.fail_attribute("softcap", fmt::format("got {}; needed 0 (none) or more", op.softcap));
  if (op.window < 0) return io.fail_attribute("window", fmt::format("got {}; needed 0 (none) or more", op.window));
  if (op.temperature_len < 0 || op.temperature_len == 1) {
    // log(1) = 0 would divide.
    return io.fail_attribute("temperature_len",
                             fmt::format("got {}; needed 0 (none) or at least 2", op.temperature_len));
  }
  return ok_status();
}

// q (B, T, H * D) and k, v (B, T, K * D), all of one float type; with positions (B, S, K * D).
Status check_qkv(const AttentionAttributes& op, const Inference& io, int q, int k, int v, bool has_positions) {
  RETURN_IF_ERROR(check_attributes(op, io));
  RETURN_IF_ERROR(io.need_rank(q, 3));
  RETURN_IF_ERROR(io.need_float(q));
  RETURN_IF_ERROR(io.need_size(q, 2, op.num_heads * op.head_dim, "num_heads * head_dim"));
  Shape keys = io.shape(q).with(2, op.num_kv_heads * op.head_dim);
  RETURN_IF_ERROR(io.need_rank(k, 3));
  if (has_positions) keys = keys.with(1, std::max<int64_t>(1, io.shape(k)[1]));
  for (const int i : {k, v}) {
    RETURN_IF_ERROR(io.need_shape(i, keys, "q's sequences and positions, num_kv_heads * head_dim"));
    RETURN_IF_ERROR(io.need_dtype(i, io.input(q).dtype));
  }
  return ok_status();
}

Status check_columns(const Inference& io, const Shape& q, int document_start, int positions) {
  for (const int i : {document_start, positions}) {
    if (!io.has_input(i)) continue;
    RETURN_IF_ERROR(io.need_shape(i, Shape{q[0], q[1]}, "one entry a token"));
    RETURN_IF_ERROR(io.need_dtype(i, DType::kI32));
  }
  return ok_status();
}

// Pairs of a query and a key it sees, of one head and sequence. Documents are data and not counted out.
double causal_pairs(int64_t num_positions, int64_t window) {
  const auto t = static_cast<double>(num_positions);
  if (window == 0 || window >= num_positions) return t * (t + 1) / 2;
  const auto w = static_cast<double>(window);
  return w * (w + 1) / 2 + (t - w) * w;
}

// Multiply-adds of one score-sized matrix product. Some of the queries are taken to see what all do on average.
double causal_products(const AttentionAttributes& op, const Shape& q, int64_t num_keys) {
  const double share = num_keys == 0 ? 0 : static_cast<double>(q[1]) / static_cast<double>(num_keys);
  return static_cast<double>(q[0] * op.num_heads * op.head_dim) * causal_pairs(num_keys, op.window) * share;
}

}  // namespace

Status infer(const Attention& op, Inference& io) {
  RETURN_IF_ERROR(check_qkv(op, io, Attention::kQ, Attention::kK, Attention::kV, io.has_input(Attention::kPositions)));
  const TensorType q = io.input(Attention::kQ);
  RETURN_IF_ERROR(check_columns(io, q.shape, Attention::kDocumentStart, Attention::kPositions));
  io.set_output(Attention::kO, q.shape, q.dtype);
  io.set_output(Attention::kLse, Shape{q.shape[0], op.num_heads, q.shape[1]}, statistics_dtype(q.dtype));
  return ok_status();
}

Cost cost(const Attention& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(Attention::kInputs);
  cost.flops = 2 * 2 * causal_products(op, shapes.shape(Attention::kQ), shapes.shape(Attention::kK)[1]);  // q k, p v
  return cost;
}

void adjoint(const Attention& op, Adjoint& a) {
  if (a.output_grad(Attention::kLse))
    return a.fail("attention: its lse is a statistic for the backward pass and has no gradient");
  const bool wanted = a.wants(Attention::kQ) || a.wants(Attention::kK) || a.wants(Attention::kV);
  if (!a.output_grad(Attention::kO) || !wanted) return;
  Builder& b = a.builder();
  b.emit(AttentionGrad{op}, {a.output_grad(Attention::kO), a.input(Attention::kQ), a.input(Attention::kK),
                             a.input(Attention::kV), a.output(Attention::kO), a.output(Attention::kLse),
                             a.input(Attention::kDocumentStart), a.input(Attention::kPositions)});
  if (!b.status().ok()) return;
  const std::vector<TensorId> grads = b.last_outputs();
  if (a.wants(Attention::kQ)) a.contribute(Attention::kQ, grads[AttentionGrad::kDq]);
  if (a.wants(Attention::kK)) a.contribute(Attention::kK, grads[AttentionGrad::kDk]);
  if (a.wants(Attention::kV)) a.contribute(Attention::kV, grads[AttentionGrad::kDv]);
}

void partition(const Attention& op, Partition& p) {
  using A = Attention;
  const int64_t ranks = p.size(MeshAxis::kTensor);
  for (const auto& [name, heads] : {std::pair{"num_heads", op.num_heads}, {"num_kv_heads", op.num_kv_heads}})
    if (heads % ranks != 0)
      return p.fail(fmt::format("attention.{}: got {}; needed a multiple of mesh.tensor = {}", name, heads, ranks));
  Attention part = op;
  part.num_heads /= ranks;
  part.num_kv_heads /= ranks;
  const Placement rows = p.tokens().without(MeshAxis::kTensor);
  const auto heads_of = [&](const Placement& tokens, int dimension) {
    return ranks > 1 ? tokens.cut(MeshAxis::kTensor, dimension) : tokens;
  };
  const Placement keys = heads_of(rows.without(MeshAxis::kContext), 2);
  const Placement lse = p.size(MeshAxis::kContext) > 1 ? Placement().cut(MeshAxis::kContext, 2) : Placement();
  const Shape& q = p.whole_shape(A::kQ);
  TensorId positions = p.input(A::kPositions, rows);
  if (!positions) positions = p.positions({q[0], q[1]}, rows);
  emit_part(p, part,
            {p.input(A::kQ, heads_of(rows, 2)), p.input(A::kK, keys), p.input(A::kV, keys),
             p.input(A::kDocumentStart, rows), positions},
            {heads_of(rows, 2), heads_of(lse, 1)});
}

Status infer(const AttentionGrad& op, Inference& io) {
  RETURN_IF_ERROR(check_qkv(op, io, AttentionGrad::kQ, AttentionGrad::kK, AttentionGrad::kV,
                            io.has_input(AttentionGrad::kPositions)));
  RETURN_IF_ERROR(io.need_like(AttentionGrad::kDo, AttentionGrad::kQ));
  RETURN_IF_ERROR(io.need_like(AttentionGrad::kO, AttentionGrad::kQ));
  const TensorType q = io.input(AttentionGrad::kQ), k = io.input(AttentionGrad::kK);
  RETURN_IF_ERROR(
      io.need_shape(AttentionGrad::kLse, Shape{q.shape[0], op.num_heads, q.shape[1]}, "one a head and token"));
  RETURN_IF_ERROR(io.need_dtype(AttentionGrad::kLse, statistics_dtype(q.dtype)));
  RETURN_IF_ERROR(check_columns(io, q.shape, AttentionGrad::kDocumentStart, AttentionGrad::kPositions));
  io.set_output(AttentionGrad::kDq, q.shape, q.dtype);
  io.set_output(AttentionGrad::kDk, k.shape, k.dtype);
  io.set_output(AttentionGrad::kDv, k.shape, k.dtype);
  return ok_status();
}

Cost cost(const AttentionGrad& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(AttentionGrad::kInputs);
  // q k again, do v, and dq, dk, dv.
  cost.flops = 5 * 2 * causal_products(op, shapes.shape(AttentionGrad::kQ), shapes.shape(AttentionGrad::kK)[1]);
  return cost;
}

Status infer(const AttentionCached& op, Inference& io) {
  RETURN_IF_ERROR(check_qkv(op, io, AttentionCached::kQ, AttentionCached::kK, AttentionCached::kV, false));
  const TensorType q = io.input(AttentionCached::kQ);
  RETURN_IF_ERROR(io.need_rank(AttentionCached::kKCache, 3));
  const int64_t capacity = io.shape(AttentionCached::kKCache)[1];
  if (capacity < q.shape[1])
    return io.fail(AttentionCached::kKCache, fmt::format("room for q's {} tokens", q.shape[1]));
  const Shape cache = {q.shape[0], capacity, op.num_kv_heads * op.head_dim};
  RETURN_IF_ERROR(io.need_shape(AttentionCached::kKCache, cache, "q's sequences, num_kv_heads * head_dim"));
  RETURN_IF_ERROR(io.need_float(AttentionCached::kKCache));
  // A cache may be narrower than the activations, but fp64 stays among itself.
  if ((io.input(AttentionCached::kKCache).dtype == DType::kF64) != (q.dtype == DType::kF64)) {
    return io.fail(AttentionCached::kKCache, q.dtype == DType::kF64 ? "f64, like q" : "f32 or bf16");
  }
  RETURN_IF_ERROR(io.need_like(AttentionCached::kVCache, AttentionCached::kKCache));
  RETURN_IF_ERROR(io.need_shape(AttentionCached::kLengths, Shape{q.shape[0]}, "one a sequence"));
  RETURN_IF_ERROR(io.need_dtype(AttentionCached::kLengths, DType::kI32));
  io.set_output(AttentionCached::kO, q.shape, q.dtype);
  return ok_status();
}

Cost cost(const AttentionCached& op, const OpShapes& shapes) {
  const Shape& q = shapes.shape(AttentionCached::kQ);
  const TensorType& cache = shapes.input(AttentionCached::kKCache);
  // Lengths are data: the cache counts as half full.
  const double held = static_cast<double>(cache.shape[1] - q[1]) / 2;
  const double seen = op.window == 0 ? held : std::min(held, static_cast<double>(op.window));
  const double pairs = seen * static_cast<double>(q[1]) + causal_pairs(q[1], op.window);
  Cost cost;
  cost.flops = 2 * 2 * static_cast<double>(q[0] * op.num_heads * op.head_dim) * pairs;
  const auto row_bytes = static_cast<double>(q[0] * cache.shape[2] * dtype_bytes(cache.dtype));
  const auto tokens = static_cast<double>(q[1]);
  const auto q_bytes = static_cast<double>(shapes.input(AttentionCached::kQ).num_bytes());
  const auto k_bytes = static_cast<double>(shapes.input(AttentionCached::kK).num_bytes());
  cost.bytes_read = q_bytes + 2 * k_bytes + 2 * row_bytes * (seen + tokens) + 4 * static_cast<double>(q[0]);
  cost.bytes_written = q_bytes + 2 * row_bytes * tokens;
  return cost;
}

}  // namespace colossus
