#include "plan/calibration.h"

#include <algorithm>

#include "plan/spread.h"

namespace colossus {

void MachineRates::visit_fields(FieldVisitor& v) {
  v.field("gpu", gpu, "names of GPUs that begin so");
  v.group("rates", rates, "what kernels reach");
}

void StackRule::visit_fields(FieldVisitor& v) {
  v.field("source", source, "text in the source of a run");
  v.field("note", note, "text in its note");
  v.field("gpu", gpu, "how its GPU's name begins");
  v.group("stack", stack, "what the software does");
}

void RecipeRule::visit_fields(FieldVisitor& v) {
  v.field("recipe", recipe, "text in the recipe of a run");
  v.field("expert_overlap", expert_overlap, "share of the expert axis's communication beside computation",
          {.min = 0, .max = 1});
  v.field("expert_deviation", expert_deviation, "of the rows that an expert gets, as a share of the mean",
          {.min = 0, .max = 10});
  v.field("routing_passes", routing_passes, "traffic of putting rows in order of their experts, over our kernels'",
          {.min = 1, .max = 100});
  v.field("routing_kernels", routing_kernels, "that each such operation is", {.min = 1, .max = 1000});
  v.field("fused_expert_rounding", fused_expert_rounding, "what experts' products read comes rounded");
  v.field("layer_host_ms", layer_host_ms, "to launch what a layer does for a microbatch", {.min = 0, .max = 1000});
  v.field("attention", attention, "of attention's kernels, beside the machine's", {.max = 3, .above = 0});
}

void MachineRule::visit_fields(FieldVisitor& v) {
  v.field("gpu", gpu, "how a run names its GPU, or begins");
  v.field("cluster", cluster, "the cluster it is played on");
}

void Calibration::visit_fields(FieldVisitor& v) {
  v.field("rank_deviation", rank_deviation, "of a GPU's time for the same work, as a share", {.min = 0, .max = 1});
  v.list("machines", machines, "rates of kernels");
  v.list("clusters", clusters, "on what published runs are played");
  v.list("stacks", stacks, "the software of published runs");
  v.list("recipes", recipes, "what their recipes turn on");
}

const KernelRates* Calibration::rates_of(const std::string& gpu) const {
  const auto found = std::ranges::find_if(machines, [&](const MachineRates& m) { return gpu.starts_with(m.gpu); });
  return found == machines.end() ? nullptr : &found->rates;
}

const MachineRule* Calibration::cluster_of(const std::string& gpu) const {
  const auto found = std::ranges::find_if(clusters, [&](const MachineRule& m) { return gpu.starts_with(m.gpu); });
  return found == clusters.end() ? nullptr : &*found;
}

const StackRule* Calibration::rule_of(const std::string& source, const std::string& note,
                                      const std::string& gpu) const {
  const auto found = std::ranges::find_if(stacks, [&](const StackRule& rule) {
    return source.find(rule.source) != std::string::npos && note.find(rule.note) != std::string::npos &&
           gpu.starts_with(rule.gpu);
  });
  return found == stacks.end() ? nullptr : &*found;
}

StackConfig Calibration::stack_of(const PublishedRun& run) const {
  const StackRule* rule = rule_of(run.source, run.note, run.gpu);
  if (!rule) return {};
  StackConfig stack = rule->stack;
  for (const RecipeRule& turned_on : recipes) {
    if (run.recipe.find(turned_on.recipe) == std::string::npos) continue;
    stack.expert_overlap = turned_on.expert_overlap.value_or(stack.expert_overlap);
    stack.expert_deviation = turned_on.expert_deviation.value_or(stack.expert_deviation);
    stack.routing_passes = turned_on.routing_passes.value_or(stack.routing_passes);
    stack.routing_kernels = turned_on.routing_kernels.value_or(stack.routing_kernels);
    stack.fused_expert_rounding = turned_on.fused_expert_rounding.value_or(stack.fused_expert_rounding);
    stack.layer_host_ms = turned_on.layer_host_ms.value_or(stack.layer_host_ms);
    stack.attention = turned_on.attention.value_or(stack.attention);
  }
  return stack;
}

double Calibration::straggling(int64_t ranks) const { return rank_deviation * largest_of_normals(ranks); }

}  // namespace colossus
