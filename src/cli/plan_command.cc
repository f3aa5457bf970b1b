#include "cli/plan_command.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "cli/build_out_text.h"
#include "cli/exit_code.h"
#include "cli/plan_question.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "model/model.h"
#include "plan/ready_files.h"
#include "plan/search.h"
#include "plan/validation.h"

namespace colossus {
namespace {

constexpr const char* kClusters = "configs/clusters";
constexpr const char* kNoTable = "none";  // --validate was not given
constexpr const char* kPublishedRuns = "configs/validation/training_runs.csv";

struct PlanArguments {
  QuestionArguments question;
  std::string tokens = "1T";
  int64_t top = 8;
  bool memory = false;
  std::string validate = kNoTable;
  BuildOutArguments build_out;
};

// What of a step is longer than in the best one, as shares of that one's.
std::string why_slower(const JudgedLayout& judged, const JudgedLayout& best) {
  // Of the same number of tokens.
  const double scale = static_cast<double>(best.layout.batch) / static_cast<double>(judged.layout.batch);
  struct Part {
    const char* name;
    double StepTime::*of;
  };
  const Part parts[] = {{"kernels", &StepTime::compute},
                        {"tensor", &StepTime::exposed_tensor},
                        {"context", &StepTime::exposed_context},
                        {"expert", &StepTime::exposed_expert},
                        {"bubble", &StepTime::bubble},
                        {"data", &StepTime::exposed_data},
                        {"update", &StepTime::update}};
  std::string text;
  for (const Part& part : parts) {
    const double more = (judged.time.*part.of * scale - best.time.*part.of) / best.time.seconds;
    if (more > 0.003) text += fmt::format("{}{} +{:.1f} %", text.empty() ? "" : ", ", part.name, 100 * more);
  }
  return text.empty() ? "fewer GPUs, or as fast" : text;
}

void print_memory(const JudgedLayout& judged, const GpuSpec& gpu) {
  const RankMemory& m = judged.memory;
  std::printf("\nmemory of the fullest rank, GB          (a GPU has %.0f)\n", gpu.memory_gb);
  for (const auto& [name, bytes] : {std::pair{"weights", m.weights},
                                    {"gradients", m.gradients},
                                    {"optimizer", m.optimizer},
                                    {"activations of microbatches in flight", m.stashes},
                                    {"within a pass", m.arena},
                                    {"all", m.total()}})
    std::printf("  %-40s %8.2f\n", name, bytes * 1e-9);
}

void print_step(const JudgedLayout& judged) {
  const StepTime& t = judged.time;
  std::printf("\na step: %.3f s of %s tokens on %lld GPUs, %.1f %% of the bf16 peak (MFU), %s tokens/s\n", t.seconds,
              format_quantity(static_cast<double>(judged.layout.batch * judged.layout.tokens)).c_str(),
              static_cast<long long>(judged.num_gpus), 100 * judged.utilization,
              format_quantity(judged.tokens_per_second).c_str());
  for (const auto& [name, seconds] : {std::pair{"kernels of the microbatches", t.compute},
                                      {"waiting for the tensor axis", t.exposed_tensor},
                                      {"waiting for the context axis", t.exposed_context},
                                      {"waiting for experts", t.exposed_expert},
                                      {"waiting for other stages (bubble)", t.bubble},
                                      {"gradients and parameters", t.exposed_data},
                                      {"optimizer", t.update},
                                      {"the slowest of all ranks", t.straggling}})
    std::printf("  %-40s %8.3f s  %5.1f %%\n", name, seconds, 100 * seconds / t.seconds);
}

void print_run(const JudgedLayout& best, const PlanQuestion& question, double tokens) {
  const double days = tokens / best.tokens_per_second / 86400;
  const PoolSpec& pool = question.cluster.pools[question.pool];
  const double watts = busy_watts_per_gpu(question.cluster, pool) * static_cast<double>(best.num_gpus);
  std::printf("\n%s tokens, while nothing fails: %.1f days, %s GPU-hours, %.0f MWh", format_quantity(tokens).c_str(),
              days, format_quantity(days * 24 * static_cast<double>(best.num_gpus)).c_str(), watts * days * 24 * 1e-6);
  if (pool.usd_per_gpu_hour)
    std::printf(", %s dollars at %.2f a GPU-hour",
                format_quantity(days * 24 * static_cast<double>(best.num_gpus) * *pool.usd_per_gpu_hour).c_str(),
                *pool.usd_per_gpu_hour);
  std::printf("\n");
}

Status plan(const PlanArguments& arguments) {
  ASSIGN_OR_RETURN(const PlanQuestion question, read_question(arguments.question));
  ASSIGN_OR_RETURN(const double tokens, read_quantity("--tokens", arguments.tokens));
  ASSIGN_OR_RETURN(const Calibration calibration, load_config<Calibration>(local_and_ready_files(), kCalibration));
  const GpuSpec& gpu = question.cluster.pools[question.pool].gpu;
  if (!arguments.question.layout.empty()) {
    Layout layout;
    RETURN_IF_ERROR(read_layout(arguments.question, question, layout));
    ASSIGN_OR_RETURN(const JudgedLayout judged, judge(question, calibration, layout));
    std::printf("%s\n", layout_text(layout).c_str());
    if (!arguments.memory) print_step(judged);
    print_memory(judged, gpu);
    if (!arguments.memory) print_run(judged, question, tokens);
    return ok_status();
  }
  const auto started = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const SearchResult result,
                   search_layouts(question, calibration, {.keep = static_cast<size_t>(arguments.top)}));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::printf("%lld legal layouts on up to %lld %s, %lld of them too large; %.1f s\n",
              static_cast<long long>(result.legal),
              static_cast<long long>(arguments.question.gpus > 0 ? arguments.question.gpus
                                                                 : question.cluster.pools[question.pool].num_gpus()),
              gpu.name.c_str(), static_cast<long long>(result.too_large), seconds);
  if (result.best.empty()) {
    if (!result.smallest)
      return invalid("[plan] no layout is legal: heads, layers and batch leave none; change --batch-tokens or --gpus");
    return invalid(
        fmt::format("[plan] nothing fits: the smallest layout ({}) needs {:.0f} GB of {:.0f} on a GPU; use more "
                    "GPUs, or a part with more memory",
                    layout_text(result.smallest->layout), result.smallest->memory.total() * 1e-9, gpu.memory_gb));
  }
  const JudgedLayout& best = result.best.front();
  std::printf("\nbest: %s\n", layout_text(best.layout).c_str());
  print_step(best);
  print_memory(best, gpu);
  print_run(best, question, tokens);
  if (result.best.size() > 1) std::printf("\nnext, by tokens/s, and what of a step is longer:\n");
  for (size_t i = 1; i < result.best.size(); ++i) {
    const JudgedLayout& other = result.best[i];
    std::printf("  %5.1f %%  %-82s %5.1f GB  %s\n", 100 * (other.tokens_per_second / best.tokens_per_second),
                layout_text(other.layout).c_str(), other.memory.total() * 1e-9, why_slower(other, best).c_str());
  }
  return ok_status();
}

Status validate(const PlanArguments& arguments) {
  FileSystem& files = local_and_ready_files();
  const std::string path = arguments.validate.empty() ? kPublishedRuns : arguments.validate;
  ASSIGN_OR_RETURN(const Calibration calibration, load_config<Calibration>(files, kCalibration));
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, int64_t{64} << 20));
  ASSIGN_OR_RETURN(const CsvTable table, CsvTable::parse(text, path));
  for (const char* column : {"name", "gpu", "count", "layers", "hidden", "global_batch", "seq"})
    if (!table.has_column(column))
      return invalid(
          fmt::format("[{}:1] no column {}; needed are those of configs/validation/training_runs.csv", path, column));
  std::printf("%-46s %-22s %6s %10s %10s %9s %9s %8s\n", "run", "stack", "GPUs", "published", "predicted", "TFLOP/s",
              "tokens/s", "error");
  std::vector<PlayedRun> all, fitted, checked;
  for (size_t row = 0; row < table.num_rows(); ++row) {
    const RunToPlay run = RunToPlay::create(table, row, calibration, files, kClusters);
    const PlayedRun played = run.play(calibration);
    all.push_back(played);
    if (!played.refused.empty()) {
      std::printf("%-46s refused: [%s:%d] %s\n", played.name.c_str(), path.c_str(), played.line,
                  played.refused.c_str());
      continue;
    }
    (played.used_to_fit ? fitted : checked).push_back(played);
    const double tokens = static_cast<double>(played.run.layout.batch * played.run.layout.tokens);
    std::printf("%-46s %-22s %6lld %8.3f s %8.3f s %9.1f %9s %+7.1f %%%s\n", played.name.c_str(), played.stack.c_str(),
                static_cast<long long>(played.run.num_gpus), played.run.step_seconds, played.time.seconds,
                model_flops_of_step(played.run.model, played.run.layout) /
                    (played.time.seconds * static_cast<double>(played.run.num_gpus)) * 1e-12,
                format_quantity(tokens / played.time.seconds).c_str(), 100 * played.error(),
                played.run.filled.empty() ? "" : ("   filled: " + played.run.filled).c_str());
  }
  const auto line = [](const char* what, const std::vector<PlayedRun>& runs) {
    const ValidationSummary s = summarize(runs);
    std::printf("%srows %zu, refused %zu, mean |error| %.1f %%, 90th percentile %.1f %%\n", what, s.rows, s.refused,
                100 * s.mean_error, 100 * s.worst_decile);
  };
  std::printf("\n");
  if (arguments.validate.empty()) {
    line("used to fit: ", fitted);
    line("only checked: ", checked);
  }
  line("", all);
  return ok_status();
}

}  // namespace

void add_plan_command(Command root) {
  auto arguments = std::make_shared<PlanArguments>();
  Command plan_command =
      root.add_command("plan", "How a model trains on a cluster: the best layouts, memory, time, cost");
  add_question_options(plan_command, arguments->question);
  plan_command.option("--tokens", arguments->tokens, "of the whole run, such as 6T");
  plan_command.option("--top", arguments->top, "how many layouts to print", {.min = 1, .max = 1000});
  plan_command.flag("--memory", arguments->memory, "with --layout: the memory alone");
  plan_command.option("--validate", arguments->validate,
                      "play the published runs of this table (configs/validation/training_runs.csv without one), and "
                      "compare",
                      {.show_default = false, .value_optional = true});
  add_build_out_options(plan_command, arguments->build_out);
  plan_command.run([arguments] {
    if (!arguments->build_out.cluster.empty())
      return print_build_out(arguments->build_out, arguments->question.cluster_overrides, arguments->question.gpus);
    return arguments->validate != kNoTable ? validate(*arguments) : plan(*arguments);
  });
}

}  // namespace colossus
