#include "ops/attention/attention_cuda.h"

namespace colossus {

template <>
Status prepare_cuda(const Attention& op, CudaPrepare&) {
  return check_plain_attention(op);
}

template <>
void run_cuda(const Attention& op, const CudaCall& call) {
  using A = Attention;
  const View& q = call.input(A::kQ);
  ScoreRule rule(op, q.shape, call.input(A::kK).shape);
  if (call.has_input(A::kDocumentStart)) rule.document_start = call.input(A::kDocumentStart).as<int32_t>();
  if (call.has_input(A::kPositions)) rule.positions = call.input(A::kPositions).as<int32_t>();
  const AttentionViews views = {.q = &q,
                                .k = &call.input(A::kK),
                                .v = &call.input(A::kV),
                                .o = &call.output(A::kO),
                                .lse = call.has_output(A::kLse) ? call.output(A::kLse).as<float>() : nullptr};
  run_plain_attention(call.stream, rule, q.shape[0], views);
}

}  // namespace colossus
