#include "plan/layout.h"

#include <fmt/format.h>

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
  v.field("data_overlap", data_overlap,
          "share of the exchange of gradients and parameters beside computation; none: what our own programs do",
          {.min = 0, .max = 1});
  v.field("fused_attention", fused_attention, "attention stores no scores");
  v.field("attention_dropout", attention_dropout, "scores are dropped, where they are stored");
  v.field("expert_folding", expert_folding, "experts need not be cut as the rest is");
  v.field("expert_deduplication", expert_deduplication, "a row goes once to each machine that has experts for it");
  v.field("expert_tensor_gather", expert_tensor_gather, "a row goes to one of an expert's ranks, and on to the others");
  v.field("expert_deviation", expert_deviation, "of the rows that an expert gets, as a share of the mean",
          {.min = 0, .max = 10});
  v.field("routing_passes", routing_passes, "traffic of putting rows in order of their experts, over our kernels'",
          {.min = 1, .max = 100});
  v.field("routing_kernels", routing_kernels, "that each such operation is", {.min = 1, .max = 1000});
  v.field("fused_expert_rounding", fused_expert_rounding, "what experts' products read comes rounded");
  v.field("layer_host_ms", layer_host_ms, "to launch what a layer does for a microbatch", {.min = 0, .max = 1000});
  v.field("loss_passes", loss_passes, "over the logits in fp32, by kernels of their own", {.min = 0, .max = 100});
  v.field("gradient_bytes", gradient_bytes, "of an element on the wire", {.min = 1, .max = 8});
  v.field("parameter_bytes", parameter_bytes, "of an element on the wire", {.min = 0.5, .max = 8});
  v.field("recompute", recompute, "activations computed again where nothing else is said");
  v.field("efficiency", efficiency, "of all kernels, beside the machine's", {.max = 2, .above = 0});
  v.field("attention", attention, "of attention's kernels, beside the machine's", {.max = 2, .above = 0});
}

std::string layout_text(const Layout& layout) {
  const MeshConfig& mesh = layout.mesh;
  std::string text = fmt::format("tensor {} context {} pipeline {}", mesh.tensor, mesh.context, mesh.pipeline);
  if (mesh.chunks > 1) text += fmt::format(" x {} chunks", mesh.chunks);
  if (mesh.schedule == PipelineScheduleKind::kZeroBubble) text += " zero-bubble";
  text += fmt::format(" data {}", mesh.data * mesh.shard);
  if (mesh.expert > 1) text += fmt::format(" expert {}", mesh.expert);
  if (mesh.expert_tensor > 1) text += fmt::format(" expert_tensor {}", mesh.expert_tensor);
  if (mesh.zero_stage > 1) text += fmt::format(" ZeRO {}", mesh.zero_stage);
  return text + fmt::format(", microbatch {}, recompute {}", layout.microbatch, recompute_name(layout.recompute));
}

std::string product_name(ProductType products) {
  for (const auto& choice : field_choices(products))
    if (choice.value == products) return choice.name;
  CHECK(false, "a product type has no name");
}

}  // namespace colossus
