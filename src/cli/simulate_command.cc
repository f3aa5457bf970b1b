#include "cli/simulate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>

#include "base/thread_pool.h"
#include "cli/plan_question.h"
#include "cli/simulate_report.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "plan/ready_files.h"
#include "plan/run_plan.h"
#include "plan/scenario.h"
#include "train/recovery/fleet_pace.h"

namespace colossus {
namespace {

constexpr double kLongestDays = 3650;

struct SimulateArguments {
  QuestionArguments question;
  std::string trace;
  double days = 0;
  std::string tokens;
  int64_t runs = 100;
  int64_t seed = 0;
  double checkpoint_every = 0;
  std::string failures = "measured", spares;
  std::vector<std::string> grow;
  bool all_gpus = false;
  bool sensitivity = false;
  std::string decode;
  double decode_weight_bytes = 2;
  bool json = false;
};

// The cluster with what was asked of it changed.
Status change_cluster(const SimulateArguments& arguments, ClusterConfig& cluster, std::vector<std::string>& notes) {
  RETURN_IF_ERROR(set_failures(local_and_ready_files(), arguments.failures, cluster));
  for (const std::string& growth : arguments.grow) {
    std::string note;
    RETURN_IF_ERROR(add_growth(local_and_ready_files(), growth, cluster, note));
    if (!note.empty()) notes.push_back(note);
  }
  return arguments.spares.empty() ? ok_status() : set_spares(arguments.spares, cluster);
}

// Without --pool a layout lies on the GPUs of all pools of day 0, judged as if they were the first's: the run's plan
// has what the others do.
PlanQuestion on_all_pools(const SimulateArguments& arguments, PlanQuestion question) {
  if (!arguments.question.pool.empty()) return question;
  PoolSpec& whole = question.cluster.pools[question.pool];
  for (const PoolSpec& pool : question.cluster.pools) {
    if (&pool == &whole || pool.arrives_day > 0 || pool.gpus_per_node != whole.gpus_per_node) continue;
    whole.nodes += pool.nodes;
    whole.spare_nodes += pool.spare_nodes;
  }
  return question;
}

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

// A layout's data axis has a power of two of ranks. Data ranks that the cluster has room for beside them take their
// share of the microbatches, as in a run that grows.
void use_all_gpus(const ClusterConfig& cluster, RunPlan& plan) {
  const int64_t node_gpus = cluster.pools.front().gpus_per_node;
  const int64_t block_gpus = std::lcm(node_gpus, plan.gpus_per_data_rank);
  int64_t data_ranks = 0;
  for (const PoolSpec& pool : cluster.pools) {
    if (pool.arrives_day > 0) continue;
    const int64_t blocks = (pool.nodes - pool.spare_nodes) * node_gpus / block_gpus;
    data_ranks += blocks * (block_gpus / plan.gpus_per_data_rank);
  }
  if (data_ranks == 0 || data_ranks == plan.data_ranks) return;
  const PaceGroup before{1, plan.data_ranks}, after{1, data_ranks};
  const double less =
      step_microbatches({&after, 1}, plan.microbatches) / step_microbatches({&before, 1}, plan.microbatches);
  const double seconds = plan.step_seconds * (plan.fixed_share + (1 - plan.fixed_share) * less);
  plan.fixed_share *= plan.step_seconds / seconds;
  plan.step_seconds = seconds;
  plan.data_ranks = data_ranks;
}

Result<RunPlan> plan_of(const SimulateArguments& arguments, const PlanQuestion& question,
                        const Calibration& calibration, const JudgedLayout& judged, const RankPieces& pieces) {
  ASSIGN_OR_RETURN(RunPlan plan, run_plan_of(question, calibration, judged, pieces));
  plan.days = arguments.days > 0 ? arguments.days : kLongestDays;
  plan.num_runs = arguments.runs;
  plan.seed = static_cast<uint64_t>(arguments.seed);
  if (arguments.all_gpus) use_all_gpus(question.cluster, plan);
  if (arguments.checkpoint_every > 0) plan.checkpoint_every_seconds = arguments.checkpoint_every;
  if (!arguments.tokens.empty()) {
    ASSIGN_OR_RETURN(const double tokens, read_quantity("--tokens", arguments.tokens));
    if (tokens <= 0) return invalid("[--tokens] 0; a run trains something");
    plan.steps = tokens / (static_cast<double>(judged.layout.batch) * static_cast<double>(judged.layout.tokens));
  }
  for (const PoolSpec& pool : question.cluster.pools)
    if (pool.arrives_day > plan.days)
      return invalid(fmt::format("[--days] {:g}; {} joins on day {:g}", plan.days, pool.name, pool.arrives_day));
  return plan;
}

Status play_days(const SimulateArguments& arguments, const Calibration& calibration, SimulateAnswer& answer) {
  const PlanQuestion& question = answer.question;
  ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(question.model, answer.judged.layout, question.stack));
  ASSIGN_OR_RETURN(answer.plan, plan_of(arguments, question, calibration, answer.judged, pieces));
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  ASSIGN_OR_RETURN(answer.history, play_runs(question.cluster, answer.plan, threads));
  if (!arguments.sensitivity) return ok_status();
  const auto plan_for = [&](const ClusterConfig& cluster) -> Result<RunPlan> {
    PlanQuestion other = question;
    other.cluster = cluster;
    ASSIGN_OR_RETURN(const JudgedLayout judged, judge(other, calibration, answer.judged.layout, pieces));
    ASSIGN_OR_RETURN(RunPlan plan, plan_of(arguments, other, calibration, judged, pieces));
    plan.num_runs = std::min(plan.num_runs, kSensitivityRuns);
    return plan;
  };
  ASSIGN_OR_RETURN(answer.sensitivity, run_sensitivity(question.cluster, plan_for, threads));
  return ok_status();
}

// One sequence, several, and as many as fit, on each kind of GPU of the cluster.
Result<std::vector<DecodeAnswer>> decode_on_pools(const SimulateArguments& arguments, const PlanQuestion& question,
                                                  const Calibration& calibration) {
  ASSIGN_OR_RETURN(const double context, read_quantity("--decode", arguments.decode));
  if (context < 1 || context > 1e8)
    return invalid(
        fmt::format("[--decode] {}; needed are the tokens that a sequence holds, such as 8k", arguments.decode));
  std::vector<DecodeAnswer> answers;
  for (const PoolSpec& pool : question.cluster.pools) {
    if (std::ranges::find(answers, pool.gpu.name, &DecodeAnswer::gpu) != answers.end()) continue;
    const KernelRates* rates = calibration.rates_of(pool.gpu.name);
    if (!rates) return invalid(fmt::format("[gpu] no rates are known of {}", pool.gpu.name));
    const DecodeQuestion asked{.model = question.model,
                               .gpu = pool.gpu,
                               .rates = *rates,
                               .network = question.cluster.network,
                               .gpus = pool.gpus_per_node,
                               .context = static_cast<int64_t>(context),
                               .weight_bytes = arguments.decode_weight_bytes};
    DecodeAnswer answer{.pool = pool.name,
                        .gpu = pool.gpu.name,
                        .gpus = asked.gpus,
                        .context = asked.context,
                        .weight_bytes = asked.weight_bytes};
    ASSIGN_OR_RETURN(answer.largest_batch, largest_decode_batch(asked));
    for (const int64_t batch : {int64_t{1}, int64_t{16}, answer.largest_batch}) {
      if (batch < 1 || batch > answer.largest_batch || (!answer.times.empty() && answer.times.back().batch >= batch))
        continue;
      ASSIGN_OR_RETURN(const DecodeTime time, time_decode(asked, batch));
      answer.times.push_back(time);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

Status simulate(const SimulateArguments& arguments) {
  SimulateAnswer answer;
  ASSIGN_OR_RETURN(answer.question, read_question(arguments.question));
  ASSIGN_OR_RETURN(const Calibration calibration, load_config<Calibration>(local_and_ready_files(), kCalibration));
  const bool plays = arguments.days > 0 || !arguments.tokens.empty();
  if (arguments.trace.empty() && arguments.decode.empty() && !plays)
    return invalid(
        "[simulate] give --trace FILE for a timeline of a step, --days N or --tokens N for whole runs, or --decode N");
  if (!plays && (arguments.sensitivity || !arguments.grow.empty() || !arguments.spares.empty() ||
                 arguments.failures != "measured"))
    return invalid(
        "[simulate] --failures, --spares, --grow and --sensitivity are of whole runs: give --days or --tokens");
  RETURN_IF_ERROR(change_cluster(arguments, answer.question.cluster, answer.notes));
  answer.model_file = arguments.question.model;
  ASSIGN_OR_RETURN(answer.judged, choose(arguments, on_all_pools(arguments, answer.question), calibration));
  if (!arguments.trace.empty()) {
    RETURN_IF_ERROR(write_trace_of(answer.question, calibration, answer.judged.layout, local_files(), arguments.trace));
    answer.notes.push_back(fmt::format("{}: open it with ui.perfetto.dev", arguments.trace));
  }
  if (plays) RETURN_IF_ERROR(play_days(arguments, calibration, answer));
  if (!arguments.decode.empty()) {
    ASSIGN_OR_RETURN(answer.decode, decode_on_pools(arguments, answer.question, calibration));
  }
  if (arguments.json) return print(json_line(answer) + "\n");
  print_answer(answer);
  return ok_status();
}

}  // namespace

void add_simulate_command(Command root) {
  auto arguments = std::make_shared<SimulateArguments>();
  SimulateArguments& a = *arguments;
  Command command = root.add_command("simulate", "Play a training step, or whole runs with failures, on a cluster");
  add_question_options(command, a.question);
  command.option("--trace", a.trace, "write the timeline of a step here, for Perfetto");
  command.option("--days", a.days, "play whole runs of so many days", {.min = 0, .max = kLongestDays});
  command.option("--tokens", a.tokens, "play whole runs until so many tokens are trained, such as 6T");
  command.option("--runs", a.runs, "how often", {.min = 1, .max = 1000000});
  command.option("--seed", a.seed, "of what is drawn at random", {.min = 0});
  command.option("--checkpoint-every", a.checkpoint_every, "seconds; 0: what loses least", {.min = 0});
  command.option(
      "--failures", a.failures,
      "measured: as the cluster's file says; none; failures in 1,000 node-days, all causes in proportion; or a "
      "TOML file with a table of failures");
  command.option("--spares", a.spares, "of each pool, 2% or a number of nodes; without it as the cluster's file says");
  command.option("--grow", a.grow,
                 "machines that join on a day, such as 'day 92: +50000 h100, +50000 h200'; a pool's name, or a kind of "
                 "configs/clusters/parts/node-*.toml; repeatable");
  command.flag("--all-gpus", a.all_gpus,
               "data ranks that the layout leaves out take their share of the microbatches, as in a run that grows");
  command.flag("--sensitivity", a.sensitivity,
               "what the answer hangs on: each assumed figure at the ends of its range");
  command.option(
      "--decode", a.decode,
      "how fast the GPUs of a machine decode, with so many tokens in the cache of each sequence, such as 8k");
  command.option("--decode-weight-bytes", a.decode_weight_bytes, "of a parameter, while decoding: 2 is bf16, 1 is fp8",
                 {.min = 0.5, .max = 4});
  command.flag("--json", a.json, "one line of JSON");
  command.run([arguments] { return simulate(*arguments); });
}

}  // namespace colossus
