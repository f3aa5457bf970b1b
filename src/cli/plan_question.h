// What `colossus plan` and `colossus simulate` are asked: a model, a cluster, and how the one trains on the other.
#pragma once

#include <string>
#include <vector>

#include "base/quantity.h"
#include "cli/command.h"
#include "plan/search.h"

namespace colossus {

inline constexpr const char* kCalibration = "configs/calibration.toml";

struct QuestionArguments {
  std::string model, cluster;
  std::vector<std::string> model_overrides, cluster_overrides, layout;
  std::string batch_tokens = "16M";
  int64_t sequence = 0;
  int64_t gpus = 0;
  std::string pool;
  std::string dtype = "bf16";
  double expert_deviation = 0;
};
// `arguments` outlives the command line.
void add_question_options(Command& command, QuestionArguments& arguments);

Result<PlanQuestion> read_question(const QuestionArguments& arguments);
// --layout, with the batch nearest to --batch-tokens.
Status read_layout(const QuestionArguments& arguments, const PlanQuestion& question, Layout& layout);

}  // namespace colossus
