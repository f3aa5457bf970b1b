#include "cli/build_out_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "cli/simulate_report.h"
#include "plan/build_out.h"
#include "plan/ready_files.h"
#include "plan/scenario.h"

namespace colossus {
namespace {

// Of what must be true: the ends of many ranges, and ways between them.
constexpr int kRunsOfNeeds = 9;

void print_text(const std::string& text) { std::fputs(text.c_str(), stdout); }

std::string days_text(const Spread& days) {
  const auto text = [](double value) { return value >= kMaxBuildOutDays ? "never" : fmt::format("{:.1f}", value); };
  return fmt::format("{:>6}  ({} to {})", text(days.mean), text(days.low), text(days.high));
}

void print_stages(const ClusterConfig& cluster, const BuildOut& built) {
  print_text(fmt::format("{}: {} GPUs, {} nodes, {} racks, {} arrays of racks\n\n", cluster.name, cluster.num_gpus(),
                         built.nodes, built.racks, built.arrays));
  print_text("days from the first rack on the floor, in the mean and for nine of ten plays\n");
  for (const auto& [name, days] : {std::pair{"the last rack is delivered", &built.delivered_days},
                                   {"placed and connected", &built.installed_days},
                                   {"cabled", &built.cabled_days},
                                   {"the last array is up", &built.arrays_days}})
    print_text(fmt::format("  {:<46} {}\n", name, days_text(*days)));
  print_text(fmt::format("  {:<46} {:6.0f}  ({:.0f} to {:.0f})\n",
                         "nodes that failed a test or early, and were repaired", built.repairs.mean, built.repairs.low,
                         built.repairs.high));
  print_text(fmt::format("  {:<46} {:6.0f}  ({:.0f} to {:.0f})\n", "  of these after they had passed",
                         built.early_failures.mean, built.early_failures.low, built.early_failures.high));
}

void print_targets(const BuildOut& built) {
  print_text(
      fmt::format("\n{:>12}  {:<28}  {:<28}\n", "GPUs train", "days from the first rack", "days from the decision"));
  for (const BuildOutTarget& target : built.targets)
    print_text(fmt::format(
        "{:>12}  {:<28}  {:<28}{}\n", target.gpus, days_text(target.floor_days), days_text(target.days),
        target.share_reached < 1 ? fmt::format("  in {:.0f} % of the plays", 100 * target.share_reached) : ""));
}

void print_bounds(const std::vector<BuildOutBound>& bounds) {
  print_text("\nno one rate can be beaten: days that each alone takes, and what has to be true to have them\n");
  for (const BuildOutBound& bound : bounds)
    print_text(fmt::format("  {:<46} {:6.1f}  {}{}\n", bound.what, bound.days, bound.figures,
                           &bound == &bounds.front() ? "   <- binds" : ""));
}

// `now`: the median with all figures as they are.
Status print_needs(const ClusterConfig& cluster, int64_t gpus, double floor_days, double now, ThreadPool& threads) {
  if (floor_days <= 0) {
    print_text("  impossible: the site alone takes longer\n");
    return ok_status();
  }
  print_text(now <= floor_days ? "  so it is; each of these alone may go as far as\n"
                               : "  so it is not; one of these has to be at least as good as\n");
  ASSIGN_OR_RETURN(const auto needs, what_must_be_true(cluster, gpus, floor_days, {.num_runs = kRunsOfNeeds}, threads));
  std::string names;
  for (const BuildOutNeed& need : needs) {
    if (!need.needed) {
      names += (names.empty() ? "" : ", ") + need.field;
      continue;
    }
    print_text(fmt::format("  {:<46} {:8.4g}   (now {:g}{})\n",
                           need.field + (need.field.find(' ') == std::string::npos ? "" : ", times"), *need.needed,
                           need.now, need.now == *need.needed ? "; any value of its range will do" : ""));
  }
  if (!names.empty()) print_text(fmt::format("  no value of its range will do: {}\n", names));
  return ok_status();
}

// The first array, and shares of what can train.
std::vector<int64_t> targets_up_to(const ClusterConfig& cluster, int64_t most) {
  std::vector<int64_t> targets;
  for (const int64_t target :
       {cluster.racks.gpus_per_rack * cluster.racks.racks_per_array, most / 10, most / 4, most / 2, 3 * most / 4, most})
    if (target > 0 && target <= most && (targets.empty() || target > targets.back())) targets.push_back(target);
  return targets;
}

}  // namespace

void add_build_out_options(Command& command, BuildOutArguments& arguments) {
  command.option(
      "--build", arguments.cluster,
      "this cluster: how long it takes to build, and what would have to be true for less; --gpus: that are to "
      "train");
  command.option("--racks-per-day", arguments.racks_per_day, "with --build: delivered; 0: as the cluster's file says",
                 {.min = 0, .max = 1e5});
  command.option("--within", arguments.within_days, "with --build: days from the decision", {.min = 1, .max = 3650});
  command.option("--first-step-within", arguments.first_step_days,
                 "with --build: days from the first rack on the floor to the first step", {.min = 0.1, .max = 3650});
  command.option("--build-runs", arguments.runs, "with --build: how often it is played", {.min = 1, .max = 100000});
}

Status print_build_out(const BuildOutArguments& arguments, const std::vector<std::string>& overrides, int64_t gpus) {
  std::vector<std::string> all = overrides;
  if (arguments.racks_per_day > 0) all.push_back(fmt::format("build_out.racks_per_day={}", arguments.racks_per_day));
  ASSIGN_OR_RETURN(const ClusterConfig cluster, load_cluster(local_and_ready_files(), arguments.cluster, all));
  const int64_t most = gpus > 0 ? gpus : trainable_gpus(cluster);
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const BuildOutPlan plan{.gpus = targets_up_to(cluster, most), .num_runs = static_cast<int>(arguments.runs)};
  ASSIGN_OR_RETURN(const BuildOut built, play_build_out(cluster, plan, threads));
  print_stages(cluster, built);
  print_targets(built);
  print_bounds(build_out_bounds(cluster));
  const double site_days = cluster.build_out.site_days, floor_days = built.targets.back().floor_days.median;
  print_text(fmt::format("\n{} GPUs train {:g} days after the decision, {:g} of them for the site\n", most,
                         arguments.within_days, site_days));
  RETURN_IF_ERROR(print_needs(cluster, most, arguments.within_days - site_days, floor_days, threads));
  print_text(fmt::format("  {:<46} {:8.4g}   (now {:g})\n", "site_days, at most", arguments.within_days - floor_days,
                         site_days));
  print_text(
      fmt::format("\n{} GPUs train {:g} days after the first rack is on the floor\n", most, arguments.first_step_days));
  RETURN_IF_ERROR(print_needs(cluster, most, arguments.first_step_days, floor_days, threads));
  int64_t enough = 0;
  for (const BuildOutTarget& target : built.targets)
    if (target.floor_days.median <= arguments.first_step_days) enough = target.gpus;
  if (enough > 0) print_text(fmt::format("  as things are, {} GPUs train by then\n", enough));
  print_assumptions(cluster, {"build_out."});
  return ok_status();
}

}  // namespace colossus
