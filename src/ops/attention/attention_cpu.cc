// Attention over whole sequences: the work is in attention_panel_cpu.cc.
#include "device/cpu/cpu_kernel.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_panel_cpu.h"

namespace colossus {

template <>
void prepare_cpu(const Attention& op, CpuPrepare& prepare) {
  const Shape& q = prepare.shapes.shape(Attention::kQ);
  prepare.workspace_bytes = prepare.num_threads * PanelAttention(AttentionRule(op), q[0], q[1]).thread_bytes();
}

template <>
void run_cpu(const Attention& op, const CpuCall& call) {
  const View& q = call.input(Attention::kQ);
  CHECK(q.dtype == DType::kF32 || q.dtype == DType::kBF16, "fp64 programs run on reference kernels");
  // Columns are compared as floats.
  const int64_t num_keys = call.input(Attention::kK).shape[1];
  CHECK(num_keys < (int64_t{1} << 24), "attention: sequences are shorter than 2^24");
  PanelAttention::Operands operands = {
      .q = q, .k = call.input(Attention::kK), .v = call.input(Attention::kV), .o = call.output(Attention::kO)};
  if (call.has_output(Attention::kLse)) operands.lse = call.output(Attention::kLse).as<float>();
  if (call.has_input(Attention::kDocumentStart))
    operands.document_start = call.input(Attention::kDocumentStart).as<int32_t>();
  operands.positions = checked_positions(call, Attention::kPositions, num_keys);
  PanelAttention(AttentionRule(op), q.shape[0], q.shape[1]).run(call.pool, operands, call.workspace);
}

}  // namespace colossus
