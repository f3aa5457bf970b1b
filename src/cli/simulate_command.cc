#include "cli/simulate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/thread_pool.h"
#include "cli/plan_question.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "plan/ready_files.h"
#include "plan/run_history.h"

namespace colossus {
namespace {

struct SimulateArguments {
  QuestionArguments question;
  std::string trace;
  double days = 0;
  int64_t runs = 100;
  int64_t seed = 0;
  double checkpoint_every = 0;
};

// The layout that was given, or the best one.
Result<JudgedLayout> choose(const SimulateArguments& arguments, const PlanQuestion& question,
                            const Calibration& calibration) {
  if (!arguments.question.layout.empty()) {
    Layout layout;
    RETURN_IF_ERROR(read_layout(arguments.question, question, layout));
    return judge(question, calibration, layout);
  }
  ASSIGN_OR_RETURN(SearchResult found, search_layouts(question, calibration, {.keep = 1}));
  if (found.best.empty())
    return invalid("[simulate] no layout fits: `colossus plan` with the same options says what is missing");
  return std::move(found.best.front());
}

void print_share(const char* name, const Spread& share) {
  std::printf("  %-38s %6.2f %%   (%.2f to %.2f)\n", name, 100 * share.mean, 100 * share.low, 100 * share.high);
}

// What the runs of each pool do, as a speed over that of the pool that was judged.
Result<std::vector<double>> pool_speeds(const PlanQuestion& question, const Calibration& calibration,
                                        const JudgedLayout& judged) {
  std::vector<double> speeds;
  for (size_t pool = 0; pool < question.cluster.pools.size(); ++pool) {
    PlanQuestion other = question;
    other.pool = pool;
    ASSIGN_OR_RETURN(const JudgedLayout there, judge(other, calibration, judged.layout));
    speeds.push_back(judged.time.seconds / there.time.seconds);
  }
  return speeds;
}

Status play_days(const SimulateArguments& arguments, const PlanQuestion& question, const Calibration& calibration,
                 const JudgedLayout& judged) {
  const MeshConfig& mesh = judged.layout.mesh;
  RunPlan plan{.days = arguments.days,
               .gpus_per_data_rank = mesh.tensor * mesh.context * mesh.pipeline,
               .data_ranks = mesh.data * mesh.shard,
               .step_seconds = judged.time.seconds,
               .microbatches = judged.layout.num_microbatches() * mesh.data * mesh.shard,
               .state_gb_per_gpu = (judged.memory.optimizer + judged.memory.weights) * 1e-9,
               .num_runs = arguments.runs,
               .seed = static_cast<uint64_t>(arguments.seed)};
  ASSIGN_OR_RETURN(plan.pool_speed, pool_speeds(question, calibration, judged));
  if (arguments.checkpoint_every > 0) plan.checkpoint_every_seconds = arguments.checkpoint_every;
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  ASSIGN_OR_RETURN(const RunHistory history, play_runs(question.cluster, plan, threads));
  std::printf("\n%.0f days, played %lld times; mean, and where nine of ten lie\n", arguments.days,
              static_cast<long long>(arguments.runs));
  print_share("useful", history.useful);
  for (const auto& [name, share] : {std::pair{"lost steps, computed again", &history.redone},
                                    {"finding that something failed", &history.detecting},
                                    {"starting again", &history.starting},
                                    {"waiting for machines", &history.waiting},
                                    {"stopped, until a person came", &history.stopped},
                                    {"checkpoints", &history.checkpoints},
                                    {"maintenance", &history.maintenance},
                                    {"slow machines", &history.slow},
                                    {"fewer ranks than on day 0", &history.missing}})
    print_share(name, *share);
  std::printf("  %-38s %6.1f     (%.1f to %.1f)\n", "interruptions a day", history.interruptions_per_day.mean,
              history.interruptions_per_day.low, history.interruptions_per_day.high);
  for (const auto& [cause, per_day] : history.interruptions_per_day_by_cause)
    std::printf("    %-36s %7.2f\n", cause.c_str(), per_day.mean);
  const double tokens_per_step = static_cast<double>(judged.layout.batch) * static_cast<double>(judged.layout.tokens);
  std::printf("  %-38s %s\n", "tokens trained", format_quantity(history.steps.mean * tokens_per_step).c_str());
  std::printf("  %-38s %.0f MWh\n", "energy", history.megawatt_hours.mean);
  std::printf("  %-38s %s\n", "GPU-hours", format_quantity(history.gpu_hours).c_str());
  for (const auto& [name, dollars] :
       {std::pair{"dollars, rented", &history.usd_rent}, {"dollars, owned", &history.usd_owned}})
    if (*dollars) std::printf("  %-38s %s\n", name, format_quantity((*dollars)->mean).c_str());
  std::printf("  %-38s every %.0f s, each stalls training for %.2f s\n", "checkpoints",
              history.checkpoint_every_seconds, history.checkpoint_stall_seconds);
  return ok_status();
}

Status simulate(const SimulateArguments& arguments) {
  ASSIGN_OR_RETURN(const PlanQuestion question, read_question(arguments.question));
  ASSIGN_OR_RETURN(const Calibration calibration, load_config<Calibration>(local_and_ready_files(), kCalibration));
  if (arguments.trace.empty() && arguments.days == 0)
    return invalid("[simulate] give --trace FILE for a timeline of a step, or --days N for whole runs");
  ASSIGN_OR_RETURN(const JudgedLayout judged, choose(arguments, question, calibration));
  std::printf("%s: a step of %s tokens takes %.3f s on %lld GPUs\n", layout_text(judged.layout).c_str(),
              format_quantity(static_cast<double>(judged.layout.batch * judged.layout.tokens)).c_str(),
              judged.time.seconds, static_cast<long long>(judged.num_gpus));
  if (!arguments.trace.empty()) {
    RETURN_IF_ERROR(write_trace_of(question, calibration, judged.layout, local_files(), arguments.trace));
    std::printf("%s: open it with ui.perfetto.dev\n", arguments.trace.c_str());
  }
  return arguments.days > 0 ? play_days(arguments, question, calibration, judged) : ok_status();
}

}  // namespace

void add_simulate_command(Command root) {
  auto arguments = std::make_shared<SimulateArguments>();
  Command command = root.add_command("simulate", "Play a training step, or whole runs with failures, on a cluster");
  add_question_options(command, arguments->question);
  command.option("--trace", arguments->trace, "write the timeline of a step here, for Perfetto");
  command.option("--days", arguments->days, "play whole runs of so many days", {.min = 0, .max = 3650});
  command.option("--runs", arguments->runs, "how often", {.min = 1, .max = 1000000});
  command.option("--seed", arguments->seed, "of what is drawn at random", {.min = 0});
  command.option("--checkpoint-every", arguments->checkpoint_every, "seconds; 0: what loses least", {.min = 0});
  command.run([arguments] { return simulate(*arguments); });
}

}  // namespace colossus
