#include "plan/layout.h"

namespace colossus {

void StackConfig::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the software");
  v.field("sequence_parallel", sequence_parallel, "tensor ranks share the tokens between the large products");
  v.field("tensor_overlap", tensor_overlap, "share of the tensor axis's communication beside the products",
          {.min = 0, .max = 1});
  v.field("context_overlap", context_overlap, "the same of the context axis", {.min = 0, .max = 1});
  v.field("expert_overlap", expert_overlap, "the same of the expert axis", {.min = 0, .max = 1});
  v.field("pipeline_overlap", pipeline_overlap, "share of transfers between stages beside other microbatches",
          {.min = 0, .max = 1});
  v.field("data_overlap", data_overlap, "share of the exchange of gradients and parameters beside computation",
          {.min = 0, .max = 1});
  v.field("fused_attention", fused_attention, "attention stores no scores");
  v.field("attention_dropout", attention_dropout, "scores are dropped, where they are stored");
  v.field("expert_folding", expert_folding, "experts need not be cut as the rest is");
  v.field("expert_deduplication", expert_deduplication, "a row goes once to each machine that has experts for it");
  v.field("gradient_bytes", gradient_bytes, "of an element on the wire", {.min = 1, .max = 8});
  v.field("parameter_bytes", parameter_bytes, "of an element on the wire", {.min = 0.5, .max = 8});
  v.field("recompute", recompute, "activations computed again where nothing else is said");
  v.field("efficiency", efficiency, "of all kernels, beside the machine's", {.max = 2, .above = 0});
  v.field("attention", attention, "of attention's kernels, beside the machine's", {.max = 2, .above = 0});
}

}  // namespace colossus
