#include "cli/plan_question.h"

#include <fmt/format.h>

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
  command.option("--expert-deviation", arguments.expert_deviation,
                 "of the rows that an expert gets, as a share of the mean; 0: routing is even", {.min = 0, .max = 10});
  command.option(
      "--layout", arguments.layout,
      "axis=ranks, for example tensor=8, microbatch=2 or recompute=full: this layout, not the best; repeatable");
}

Status read_layout(const QuestionArguments& arguments, const PlanQuestion& question, Layout& layout) {
  ASSIGN_OR_RETURN(layout, read_layout(question, "--layout", arguments.layout));
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
    ASSIGN_OR_RETURN(question.pool, find_pool(question.cluster, arguments.pool));
  }
  question.num_gpus = arguments.gpus;
  question.tokens = arguments.sequence;
  ASSIGN_OR_RETURN(question.batch_tokens, read_quantity("--batch-tokens", arguments.batch_tokens));
  if (question.batch_tokens == 0) question.batch_tokens = 16e6;
  for (const auto& choice : field_choices(ProductType{}))
    if (arguments.dtype == choice.name) question.products = choice.value;
  question.stack.expert_deviation = arguments.expert_deviation;
  RETURN_IF_ERROR(check_products(question));
  return question;
}

}  // namespace colossus
