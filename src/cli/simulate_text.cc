#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "cli/plan_question.h"
#include "cli/simulate_report.h"
#include "cli/terminal.h"

namespace colossus {
namespace {

constexpr size_t kTextColumns = 110;

void print_text(const std::string& text) { std::fputs(text.c_str(), stdout); }

double tokens_per_step(const SimulateAnswer& answer) {
  return static_cast<double>(answer.judged.layout.batch) * static_cast<double>(answer.judged.layout.tokens);
}

void print_share(const char* name, const Spread& share) {
  print_text(fmt::format("  {:<38} {:6.2f} %   ({:.2f} to {:.2f})\n", name, 100 * share.mean, 100 * share.low,
                         100 * share.high));
}

void print_quantity(const char* name, const Spread& spread, double factor = 1) {
  print_text(fmt::format("  {:<38} {:>8}   ({} to {})\n", name, format_quantity(factor * spread.mean),
                         format_quantity(factor * spread.low), format_quantity(factor * spread.high)));
}

void print_heading(const SimulateAnswer& answer) {
  const RunHistory& history = *answer.history;
  const RunPlan& plan = answer.plan;
  if (plan.steps) {
    print_text(fmt::format("\n{} tokens, played {} times: {:.2f} days ({:.2f} to {:.2f} in nine of ten)\n",
                           format_quantity(*plan.steps * tokens_per_step(answer)), plan.num_runs, history.days.mean,
                           history.days.low, history.days.high));
    if (history.num_unfinished > 0)
      print_text(fmt::format("  {} of them were not done after {:g} days\n", history.num_unfinished, plan.days));
  } else {
    print_text(
        fmt::format("\n{:.0f} days, played {} times; mean, and where nine of ten lie\n", plan.days, plan.num_runs));
  }
  int64_t there = 0;
  for (const PoolSpec& pool : answer.question.cluster.pools) there += pool.arrives_day == 0 ? pool.num_gpus() : 0;
  const int64_t train = history.data_ranks * plan.gpus_per_data_rank;
  print_text(fmt::format("  {:<38} {} of {}, the others are spare\n", "GPUs that train on day 0", train, there));
}

void print_history(const SimulateAnswer& answer) {
  const RunHistory& history = *answer.history;
  print_heading(answer);
  print_share("useful", history.useful);
  for (const auto& [name, share] : {std::pair{"lost steps, computed again", &history.redone},
                                    {"finding that something failed", &history.detecting},
                                    {"starting again", &history.starting},
                                    {"waiting for machines", &history.waiting},
                                    {"stopped, until a person came", &history.stopped},
                                    {"checkpoints", &history.checkpoints},
                                    {"maintenance", &history.maintenance},
                                    {"slow machines", &history.slow},
                                    {"fewer ranks than there could be", &history.missing}})
    print_share(name, *share);
  print_text(fmt::format("  {:<38} {:6.1f}     ({:.1f} to {:.1f})\n", "interruptions a day",
                         history.interruptions_per_day.mean, history.interruptions_per_day.low,
                         history.interruptions_per_day.high));
  for (const auto& [cause, per_day] : history.interruptions_per_day_by_cause)
    print_text(fmt::format("    {:<36} {:7.2f}\n", cause, per_day.mean));
  print_quantity("tokens trained", history.steps, tokens_per_step(answer));
  print_quantity("energy, MWh", history.megawatt_hours);
  print_text(
      fmt::format("  {:<38} {:8.1f}\n", "power of the site at full load, MW", peak_megawatts(answer.question.cluster)));
  print_text(fmt::format("  {:<38} {:>8}\n", "GPU-hours", format_quantity(history.gpu_hours)));
  if (history.usd_rent) print_quantity("dollars, rented", *history.usd_rent);
  if (history.usd_owned) print_quantity("dollars, owned", *history.usd_owned);
  print_text(fmt::format("  {:<38} every {:.0f} s, each stalls training for {:.2f} s\n", "checkpoints",
                         history.checkpoint_every_seconds, history.checkpoint_stall_seconds));
}

// What machines that join bring, and what that costs.
void print_phases(const SimulateAnswer& answer) {
  const RunHistory& history = *answer.history;
  const bool even = std::ranges::all_of(answer.plan.pool_speed, [](double speed) { return speed == 1; });
  if (history.phases.size() < 2 && even) return;
  print_text(fmt::format("\n{:<14} {:>9} {:>11} {:>10} {:>10} {:>9} {:>9}\n", "phase", "GPUs", "data ranks", "speed",
                         "tokens/s", "useful", "tokens"));
  const double tokens = tokens_per_step(answer);
  for (const GrowthPhase& phase : history.phases)
    print_text(fmt::format("from day {:<5g} {:>9} {:>11} {:>9.3f}x {:>10} {:>7.2f} % {:>9}\n", phase.from_day,
                           phase.gpus, phase.data_ranks, phase.whole_rate,
                           format_quantity(tokens / answer.plan.step_seconds * phase.whole_rate),
                           100 * phase.useful.mean, format_quantity(tokens * phase.steps.mean)));
  print_text("  speed: of all ranks, over those of day 0 were they as fast as the first pool's, while nothing fails\n");
  for (size_t pool = 0; pool < answer.plan.pool_speed.size(); ++pool)
    print_text(fmt::format("  {:<24} a data rank of {} is {:.3f} times as fast\n",
                           answer.question.cluster.pools[pool].name, answer.question.cluster.pools[pool].gpu.name,
                           answer.plan.pool_speed[pool]));
  for (size_t i = 1; i < history.phases.size(); ++i) {
    const GrowthPhase &phase = history.phases[i], &before = history.phases[i - 1];
    // While all start nothing is trained; before that, those who were there train on.
    const double tokens_per_second = tokens / answer.plan.step_seconds;
    const double start_seconds = answer.question.cluster.recovery.start_seconds;
    print_text(fmt::format(
        "  day {:g}: the run goes on with the new machines after {:.2f} hours; that all start again costs {} tokens\n",
        phase.from_day, phase.joined_hours.mean,
        format_quantity(start_seconds * tokens_per_second * before.whole_rate)));
    if (phase.even_rate > phase.whole_rate * 1.0005)
      print_text(
          fmt::format("  its GPUs together are {:.3f} times those of day 0; {:.1f} % of that is lost, as the batch "
                      "stays: bubble and "
                      "update do not get shorter, and microbatches are whole\n",
                      phase.even_rate, 100 * (1 - phase.whole_rate / phase.even_rate)));
  }
}

std::string range_of(const SensitivityRow& row, const std::function<std::string(const RunAnswer&)>& text) {
  return fmt::format("{} to {}", row.at[0] ? text(*row.at[0]) : "no run", row.at[1] ? text(*row.at[1]) : "no run");
}

void print_sensitivity(const Sensitivity& sensitivity) {
  const bool cost = sensitivity.base.usd_per_step.has_value();
  print_text(fmt::format(
      "\nwhat it hangs on, were each assumed figure at the ends of its range ({:.1f} % useful as "
      "assumed)\n  {:<46} {:>9}  {:>20}  {:>16}  {:>20}\n",
      100 * sensitivity.base.useful, "figure", "value", "range", "useful, %", cost ? "dollars a token" : ""));
  for (const SensitivityRow& row : sensitivity.rows) {
    const std::string useful = range_of(row, [](const RunAnswer& a) { return fmt::format("{:.1f}", 100 * a.useful); });
    const std::string dollars = range_of(row, [&](const RunAnswer& a) {
      return fmt::format("{:+.1f} %",
                         100 * (a.usd_per_step.value_or(1) / sensitivity.base.usd_per_step.value_or(1) - 1));
    });
    print_text(fmt::format("  {:<46} {:>9.4g}  {:>20}  {:>16}  {:>20}\n", row.assumed.path, row.assumed.value,
                           fmt::format("{:g} to {:g}", row.assumed.low, row.assumed.high), useful,
                           cost ? dollars : ""));
    for (const std::string& why : row.refused)
      if (!why.empty()) print_text(fmt::format("    no run: {}\n", why));
  }
  std::vector<std::string> no_matter;
  for (const AssumedNumber& assumed : sensitivity.no_matter) no_matter.push_back(assumed.path);
  if (!no_matter.empty()) print_text(fmt::format("  no matter here: {}\n", fmt::join(no_matter, ", ")));
}

void print_decode(const std::vector<DecodeAnswer>& answers) {
  if (answers.empty()) return;
  const DecodeAnswer& first = answers.front();
  print_text(fmt::format(
      "\ndecoding at the roofline: a copy on {} GPUs, weights of {:g} bytes, {} tokens in the cache of each sequence\n"
      "  {:<12} {:>10} {:>10} {:>12} {:>14} {:>12} {:>8} {:>8}\n",
      first.gpus, first.weight_bytes, first.context, "GPU", "sequences", "ms a token", "tokens/s each",
      "tokens/s a GPU", "weights, GB", "cache", "memory"));
  for (const DecodeAnswer& answer : answers) {
    if (answer.largest_batch == 0)
      print_text(fmt::format("  {:<12} the weights and a sequence do not fit\n", answer.gpu));
    for (const DecodeTime& time : answer.times)
      print_text(fmt::format("  {:<12} {:>10} {:>10.2f} {:>12.1f} {:>14.1f} {:>12.1f} {:>8.1f} {:>6.0f} %{}\n",
                             answer.gpu, time.batch, 1e3 * time.seconds, 1 / time.seconds,
                             time.tokens_per_second_per_gpu, time.weights_gb, time.cache_gb, 100 * time.memory_bound,
                             time.batch == answer.largest_batch ? "  (the most that fit)" : ""));
  }
  print_text("  memory: share of the time in which it is what is waited for\n");
}

}  // namespace

void print_assumptions(const ClusterConfig& cluster, const std::vector<std::string>& tables) {
  std::vector<std::string> names;
  for (const AssumedNumber& assumed : assumptions_of(cluster)) {
    if (std::ranges::any_of(tables, [&](const std::string& table) { return assumed.path.starts_with(table); }))
      names.push_back(assumed.path);
  }
  if (names.empty()) return;
  print_text(fmt::format(
      "\nrests on {} figures that are assumed, each with a range and a reason in the cluster's file:\n", names.size()));
  std::string line;
  for (const std::string& name : names) {
    if (line.size() + name.size() > kTextColumns) {
      print_text(fmt::format("  {}\n", line));
      line.clear();
    }
    line += name + (name == names.back() ? "" : ", ");
  }
  print_text(fmt::format("  {}\n", line));
}

void print_answer(const SimulateAnswer& answer) {
  for (const std::string& note : answer.notes) print_text(fmt::format("{}\n", note));
  print_text(fmt::format("{}: a step of {} tokens takes {:.3f} s on {} GPUs\n", layout_text(answer.judged.layout),
                         format_quantity(tokens_per_step(answer)), answer.judged.time.seconds, answer.judged.num_gpus));
  if (answer.history) {
    print_history(answer);
    print_phases(answer);
    if (answer.sensitivity) {
      print_sensitivity(*answer.sensitivity);
    } else {
      print_assumptions(answer.question.cluster,
                        {"failures.", "recovery.", "storage.", "power.", "prices.", "pools[", "network."});
      print_text("  --sensitivity says what hangs on each\n");
    }
  }
  print_decode(answer.decode);
}

}  // namespace colossus
