// What `colossus plan` and `colossus simulate` are asked: a model, a cluster, and how the one trains on the other.
#pragma once

#include <string>
#include <vector>

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
};
// `arguments` outlives the command line.
void add_question_options(Command& command, QuestionArguments& arguments);

Result<PlanQuestion> read_question(const QuestionArguments& arguments);
// --layout, with the batch nearest to --batch-tokens.
Status read_layout(const QuestionArguments& arguments, const PlanQuestion& question, Layout& layout);

// "6T" as 6e12: with k, M, G or B, T.
Result<double> read_quantity(const std::string& option, const std::string& text);

// "tensor 8 pipeline 4 data 16, microbatch 1, recompute none".
std::string layout_text(const Layout& layout);

}  // namespace colossus
