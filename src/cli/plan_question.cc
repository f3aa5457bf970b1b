#include "cli/plan_question.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "io/config.h"
#include "plan/ready_files.h"
#include "plan/scenario.h"

namespace colossus {

void add_question_options(Command& command, QuestionArguments& arguments) {
  command.option("--model", arguments.model, "for example configs/models/grok-1.toml");
  command.option("--cluster", arguments.cluster, "for example configs/clusters/colossus-100k-h100.toml");
  command.option("--set-model", arguments.model_overrides, "a=value over the model's file; repeatable");
  command.option("--set-cluster", arguments.cluster_overrides, "a=value over the cluster's file; repeatable");
  command.option("--pool", arguments.pool, "whose GPUs; the first pool of the cluster without it");
  command.option("--gpus", arguments.gpus, "at most so many; 0: all but the spares", {.min = 0});
  command.option("--batch-tokens", arguments.batch_tokens, "of a step, about, such as 16M");
  command.option("--seq", arguments.sequence, "tokens of a sequence; 0: the model's context",
                 {.min = 0, .max = 1 << 24});
  command.option("--dtype", arguments.dtype, "of the layers' products", {.choices = {"f32", "bf16", "fp8", "fp4"}});
  command.option(
      "--layout", arguments.layout,
      "axis=ranks, for example tensor=8, microbatch=2 or recompute=full: this layout, not the best; repeatable");
}

// "6T" as 6e12.
Result<double> read_quantity(const std::string& option, const std::string& text) {
  const std::string suffixes = "kMGT";
  std::string number = text;
  double factor = 1;
  if (!number.empty())
    if (const size_t at = (number.back() == 'B' ? std::string("kMBT") : suffixes).find(number.back());
        at != std::string::npos) {
      factor = std::pow(1000.0, static_cast<double>(at + 1));
      number.pop_back();
    }
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  if (number.empty() || end != number.c_str() + number.size() || !std::isfinite(value) || value < 0)
    return invalid(
        fmt::format("[{}] {}; give a number, with k, M, B or T behind it if you like, such as 6T", option, text));
  return value * factor;
}

std::string layout_text(const Layout& layout) {
  const MeshConfig& mesh = layout.mesh;
  std::string text = fmt::format("tensor {} context {} pipeline {}", mesh.tensor, mesh.context, mesh.pipeline);
  if (mesh.chunks > 1) text += fmt::format(" x {} chunks", mesh.chunks);
  text += fmt::format(" data {}", mesh.data * mesh.shard);
  if (mesh.expert > 1) text += fmt::format(" expert {}", mesh.expert);
  if (mesh.expert_tensor > 1) text += fmt::format(" expert_tensor {}", mesh.expert_tensor);
  return text + fmt::format(", microbatch {}, recompute {}", layout.microbatch, recompute_name(layout.recompute));
}

namespace {

// A layout as --layout gives it: a mesh, and what else decides about a pass.
struct LayoutConfig {
  MeshConfig mesh;
  int64_t microbatch = 1;
  Recompute recompute = Recompute::kNone;
  void visit_fields(FieldVisitor& v) {
    mesh.visit_fields(v);
    v.field("microbatch", microbatch, "sequences computed at once", {.min = 1, .max = 1 << 20});
    v.field("recompute", recompute, "activations computed again instead of kept");
  }
};

}  // namespace

Status read_layout(const QuestionArguments& arguments, const PlanQuestion& question, Layout& layout) {
  ASSIGN_OR_RETURN(const auto given, parse_config<LayoutConfig>("", "--layout", arguments.layout));
  layout.mesh = given.mesh;
  layout.microbatch = given.microbatch;
  layout.recompute = given.recompute;
  if (layout.mesh.automatic) return invalid("[--layout] auto is what the search is for: leave --layout out");
  const int64_t there = question.cluster.pools[question.pool].num_gpus();
  if (layout.mesh.num_ranks() > there)
    return invalid(
        fmt::format("[--layout] {} ranks; {} has {} GPUs", layout.mesh.num_ranks(), arguments.cluster, there));
  layout.tokens = question.tokens > 0 ? question.tokens : question.model.context;
  layout.products = question.products;
  const int64_t unit = layout.microbatch * layout.mesh.data * layout.mesh.shard;
  const double rounds = question.batch_tokens / static_cast<double>(layout.tokens) / static_cast<double>(unit);
  layout.batch = std::max<int64_t>(1, std::llround(rounds)) * unit;
  if (layout.mesh.chunks > 1) layout.mesh.schedule = PipelineScheduleKind::kInterleaved;
  return ok_status();
}

Result<PlanQuestion> read_question(const QuestionArguments& arguments) {
  if (arguments.model.empty() || arguments.cluster.empty())
    return invalid(
        "[plan] give --model and --cluster, for example --model configs/models/grok-1.toml --cluster "
        "configs/clusters/colossus-100k-h100.toml, or --validate");
  PlanQuestion question;
  FileSystem& files = local_and_ready_files();
  ASSIGN_OR_RETURN(question.model, load_config<ModelConfig>(files, arguments.model, arguments.model_overrides));
  ASSIGN_OR_RETURN(question.cluster, load_cluster(files, arguments.cluster, arguments.cluster_overrides));
  if (question.model.vocab_size == 0)
    return invalid(fmt::format("[{}] vocab_size = 0; a plan needs it: --set-model vocab_size=131072", arguments.model));
  if (!arguments.pool.empty()) {
    question.pool = question.cluster.pools.size();
    for (size_t i = 0; i < question.cluster.pools.size(); ++i)
      if (question.cluster.pools[i].name == arguments.pool) question.pool = i;
    if (question.pool == question.cluster.pools.size())
      return invalid(fmt::format("[--pool] {}; {} has {}", arguments.pool, arguments.cluster,
                                 question.cluster.pools.front().name));
  }
  question.num_gpus = arguments.gpus;
  question.tokens = arguments.sequence;
  ASSIGN_OR_RETURN(question.batch_tokens, read_quantity("--batch-tokens", arguments.batch_tokens));
  if (question.batch_tokens == 0) question.batch_tokens = 16e6;
  for (const auto& choice : field_choices(ProductType{}))
    if (arguments.dtype == choice.name) question.products = choice.value;
  const GpuSpec& gpu = question.cluster.pools[question.pool].gpu;
  if ((question.products == ProductType::kFp8 && gpu.fp8_tflops == 0) ||
      (question.products == ProductType::kFp4 && gpu.fp4_tflops == 0) ||
      (question.products == ProductType::kF32 && gpu.fp32_tflops == 0))
    return invalid(fmt::format("[--dtype] {}; {} has no units for it", arguments.dtype, gpu.name));
  return question;
}

}  // namespace colossus
