#include "plan/run_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>

namespace colossus {
namespace {

constexpr double kDaySeconds = 86400;
constexpr double kGiveUpSeconds = 3600;  // waiting for machines, before a person is called

// The machines of a run, kind by kind, and the pool that each kind belongs to.
struct Roster {
  FleetShape shape;
  std::vector<MachineKind> kinds;
  std::vector<size_t> pool_of_kind;

  void add(const ClusterConfig& cluster, const RunPlan& plan, size_t pool, int64_t machines, int64_t data_ranks) {
    if (machines == 0) return;
    kinds.push_back({.machines = static_cast<int>(machines),
                     .speed = plan.pool_speed.empty() ? 1 : plan.pool_speed[pool],
                     .fault_scale = cluster.pools[pool].failure_scale,
                     .arrives_day = cluster.pools[pool].arrives_day,
                     .data_ranks = static_cast<int>(data_ranks)});
    pool_of_kind.push_back(pool);
  }
};

// Machines are numbered in this order: those that train on day 0, their spares, those that arrive later.
Result<Roster> make_roster(const ClusterConfig& cluster, const RunPlan& plan) {
  const int64_t node_gpus = cluster.pools.front().gpus_per_node;
  const int64_t block_gpus = std::lcm(node_gpus, plan.gpus_per_data_rank);
  const int64_t block_nodes = block_gpus / node_gpus, block_ranks = block_gpus / plan.gpus_per_data_rank;
  const auto blocks_of = [&](const PoolSpec& pool) { return (pool.nodes - pool.spare_nodes) / block_nodes; };
  for (const PoolSpec& pool : cluster.pools) {
    if (pool.gpus_per_node == node_gpus) continue;
    return invalid(fmt::format("pools of {} and of {} GPUs a node cannot be one run: its nodes have equally many ranks",
                               node_gpus, pool.gpus_per_node));
  }
  Roster roster;
  int64_t wanted = plan.data_ranks == 0 ? INT64_MAX : plan.data_ranks, data_ranks = 0;
  std::vector<int64_t> spares(cluster.pools.size());
  for (size_t pool = 0; pool < cluster.pools.size(); ++pool) {
    if (cluster.pools[pool].arrives_day > 0) continue;
    const int64_t blocks = std::min(blocks_of(cluster.pools[pool]), wanted / block_ranks);
    roster.add(cluster, plan, pool, blocks * block_nodes, blocks * block_ranks);
    spares[pool] = cluster.pools[pool].nodes - blocks * block_nodes;
    wanted -= blocks * block_ranks;
    data_ranks += blocks * block_ranks;
  }
  if (data_ranks == 0 || (plan.data_ranks != 0 && data_ranks != plan.data_ranks)) {
    return invalid(fmt::format(
        "{} has no room for {} data ranks of {} GPUs on day 0: beside its spares it holds {}, in whole nodes of {}",
        cluster.name, plan.data_ranks, plan.gpus_per_data_rank, data_ranks, node_gpus));
  }
  roster.shape = {.ranks_per_machine = static_cast<int>(node_gpus),
                  .ranks_per_data_rank = static_cast<int>(plan.gpus_per_data_rank),
                  .data_ranks = static_cast<int>(data_ranks),
                  .num_spares = static_cast<int>(std::accumulate(spares.begin(), spares.end(), int64_t{0}))};
  std::vector<size_t> later;
  for (size_t pool = 0; pool < cluster.pools.size(); ++pool) {
    if (cluster.pools[pool].arrives_day > 0) {
      later.push_back(pool);
    } else {
      roster.add(cluster, plan, pool, spares[pool], 0);
    }
  }
  std::ranges::stable_sort(later, {}, [&](size_t pool) { return cluster.pools[pool].arrives_day; });
  for (const size_t pool : later) {
    roster.add(cluster, plan, pool, cluster.pools[pool].nodes, blocks_of(cluster.pools[pool]) * block_ranks);
  }
  return roster;
}

std::vector<FaultCause> causes_of(const ClusterConfig& cluster) {
  const FailureSpec& failures = cluster.failures;
  std::vector<FaultCause> causes;
  for (const FailureComponent& component : failures.components) {
    causes.push_back({.name = component.name,
                      .kind = component.effect,
                      .per_day = component.per_1000_node_days / 1000,
                      .repair_days = failures.repair(component.repair).quantiles()});
  }
  for (const FailureGroup& group : failures.groups) {
    const int64_t machines = std::max<int64_t>(1, group.gpus / cluster.pools.front().gpus_per_node);
    causes.push_back({.name = group.name,
                      .kind = FaultKind::kMachine,
                      .per_day = group.per_1000_group_days / 1000,
                      .machines = static_cast<int>(machines),
                      .share_hit = group.share_hit,
                      .repair_days = failures.repair(group.repair).quantiles()});
  }
  return causes;
}

// Faults of a day that interrupt the run of day 0.
double faults_per_day(const FleetSimulationOptions& options) {
  double sum = 0;
  for (const FaultCause& cause : options.causes) {
    if (cause.kind != FaultKind::kSlow) sum += cause.per_day * options.shape.num_slots() / cause.machines;
  }
  return sum;
}

// One node's state from the memory of another.
double peer_load_seconds(const ClusterConfig& cluster, const RunPlan& plan) {
  const double bandwidth = cluster.storage.peer_gb_per_second;
  const double node_gb = plan.state_gb_per_gpu * static_cast<double>(cluster.pools.front().gpus_per_node);
  return bandwidth > 0 ? node_gb / bandwidth : 0;
}

FleetSimulationOptions options_of(const ClusterConfig& cluster, const RunPlan& plan, const Roster& roster) {
  FleetSimulationOptions options;
  options.shape = roster.shape;
  options.kinds = roster.kinds;
  options.causes = causes_of(cluster);
  for (const MaintenanceWindow& window : cluster.maintenance) {
    options.outages.push_back({.every_days = window.every_days, .hours = window.hours, .share = window.share});
  }
  options.policy.dead_after_seconds = cluster.recovery.silent_seconds;
  options.policy.hang_after_seconds = cluster.recovery.hang_seconds;
  options.policy.give_up_seconds = kGiveUpSeconds;
  options.policy.min_data_ranks = std::max(1, static_cast<int>(plan.min_share * roster.shape.data_ranks));
  options.days = plan.days;
  if (plan.steps) options.work_days = *plan.steps * plan.step_seconds / kDaySeconds;
  options.slow_ratio = static_cast<float>(cluster.failures.slow_ratio);
  options.step_seconds = plan.step_seconds;
  options.microbatches = plan.microbatches;
  options.fixed_share = plan.fixed_share;
  options.peer_copies = plan.peer_copies;
  options.restart_seconds = cluster.recovery.start_seconds;
  options.person_seconds = cluster.recovery.person_seconds;
  options.seed = plan.seed;
  const int64_t gpus = int64_t{roster.shape.data_ranks} * plan.gpus_per_data_rank;
  options.peer_load_seconds = peer_load_seconds(cluster, plan);
  options.checkpoint_load_seconds = checkpoint_load_seconds(cluster, plan, gpus);
  // Whoever waits for less takes those who still load for lost.
  options.policy.start_within_seconds =
      std::max(options.policy.start_within_seconds,
               2 * (options.restart_seconds + options.peer_load_seconds + options.checkpoint_load_seconds));
  options.checkpoint_seconds = plan.checkpoint_stall_seconds.value_or(checkpoint_stall_seconds(cluster, plan));
  const double per_day = faults_per_day(options);
  options.checkpoint_every_seconds = plan.checkpoint_every_seconds.value_or(
      checkpoint_interval(options.checkpoint_seconds, per_day > 0 ? kDaySeconds / per_day : plan.days * kDaySeconds,
                          std::max(plan.step_seconds, checkpoint_write_seconds(cluster, plan, gpus))));
  return options;
}

Status check_plan(const ClusterConfig& cluster, const RunPlan& plan) {
  if (!(plan.days > 0) || !(plan.step_seconds > 0) || plan.gpus_per_data_rank < 1 || plan.data_ranks < 0 ||
      plan.num_runs < 1 || !(plan.state_gb_per_gpu >= 0) || !(plan.state_gb.value_or(0) >= 0) ||
      !(plan.min_share > 0) || !(plan.min_share <= 1) || !(plan.steps.value_or(1) > 0)) {
    return invalid(fmt::format(
        "a run needs days ({}), steps ({}), step_seconds ({}), GPUs of a data rank ({}) and runs to play ({}) above 0, "
        "and a share of data ranks that is enough ({}) in (0, 1]",
        plan.days, plan.steps.value_or(1), plan.step_seconds, plan.gpus_per_data_rank, plan.num_runs, plan.min_share));
  }
  if (!plan.pool_speed.empty() && plan.pool_speed.size() != cluster.pools.size()) {
    return invalid(fmt::format("{} speeds for {} pools", plan.pool_speed.size(), cluster.pools.size()));
  }
  return ok_status();
}

using Measure = std::function<double(const FleetOutcome&)>;

Spread spread_over(const std::vector<FleetOutcome>& outcomes, const Measure& measure) {
  std::vector<double> values;
  for (const FleetOutcome& outcome : outcomes) values.push_back(measure(outcome));
  return spread_of(std::move(values));
}

void fill_shares(RunHistory& history) {
  const auto fill = [&](Spread& spread, double FleetOutcome::*part) {
    spread = spread_over(history.outcomes, [part](const FleetOutcome& outcome) { return outcome.*part; });
  };
  fill(history.useful, &FleetOutcome::useful);
  fill(history.detecting, &FleetOutcome::detecting);
  fill(history.waiting, &FleetOutcome::waiting);
  fill(history.starting, &FleetOutcome::starting);
  fill(history.redone, &FleetOutcome::redone);
  fill(history.checkpoints, &FleetOutcome::checkpoints);
  fill(history.maintenance, &FleetOutcome::maintenance);
  fill(history.slow, &FleetOutcome::slow);
  fill(history.missing, &FleetOutcome::missing);
  fill(history.stopped, &FleetOutcome::stopped);
  fill(history.work_days, &FleetOutcome::work_days);
}

int64_t interruptions(const FleetOutcome& outcome) {
  int64_t sum = 0;
  for (const CauseCount& cause : outcome.causes) sum += cause.interruptions;
  return sum;
}

void fill_interruptions(const FleetSimulationOptions& options, RunHistory& history) {
  history.interruptions_per_day = spread_over(history.outcomes, [](const FleetOutcome& outcome) {
    return static_cast<double>(interruptions(outcome)) / outcome.days;
  });
  for (size_t cause = 0; cause < options.causes.size(); ++cause) {
    history.interruptions_per_day_by_cause.emplace_back(
        options.causes[cause].name, spread_over(history.outcomes, [cause](const FleetOutcome& outcome) {
          return static_cast<double>(outcome.causes[cause].interruptions) / outcome.days;
        }));
  }
  history.mean_hours_between_interruptions = spread_over(history.outcomes, [](const FleetOutcome& outcome) {
    const double training =
        1 - outcome.detecting - outcome.waiting - outcome.starting - outcome.maintenance - outcome.stopped;
    return 24 * outcome.days * training / std::max(1.0, static_cast<double>(interruptions(outcome)));
  });
  history.stops =
      spread_over(history.outcomes, [](const FleetOutcome& outcome) { return static_cast<double>(outcome.num_stops); });
}

void fill_cost(const ClusterConfig& cluster, const Roster& roster, RunHistory& history) {
  const auto megawatt_hours = [&](const FleetOutcome& outcome) {
    double watt_days = 0;
    for (size_t kind = 0; kind < roster.kinds.size(); ++kind) {
      const PoolSpec& pool = cluster.pools[roster.pool_of_kind[kind]];
      const KindUse& use = outcome.kinds[kind];
      watt_days +=
          static_cast<double>(pool.gpus_per_node) * (use.busy_machine_days * busy_watts_per_gpu(cluster, pool) +
                                                     use.idle_machine_days * idle_watts_per_gpu(cluster, pool));
    }
    return 24 * watt_days / 1e6;
  };
  history.megawatt_hours = spread_over(history.outcomes, megawatt_hours);
  // From the day a pool is there, for each of its hours.
  const auto over_pools = [&](const FleetOutcome& outcome, const std::function<double(const PoolSpec&)>& hourly) {
    double sum = 0;
    for (const PoolSpec& pool : cluster.pools)
      sum += 24 * std::max(0.0, outcome.days - pool.arrives_day) * hourly(pool);
    return sum;
  };
  history.gpu_hours = spread_over(history.outcomes, [&](const FleetOutcome& outcome) {
                        return over_pools(outcome, [](const PoolSpec& p) { return static_cast<double>(p.num_gpus()); });
                      }).mean;
  const HourlyPrice known = hourly_price(cluster);
  history.usd_rent.reset();
  history.usd_owned.reset();
  if (known.rent) {
    history.usd_rent = spread_over(history.outcomes, [&](const FleetOutcome& outcome) {
      return over_pools(outcome, [&](const PoolSpec& pool) { return *hourly_price(cluster, pool).rent; });
    });
  }
  if (known.owned) {
    history.usd_owned = spread_over(history.outcomes, [&](const FleetOutcome& outcome) {
      return over_pools(outcome, [&](const PoolSpec& pool) { return *hourly_price(cluster, pool).owned; }) +
             1000 * megawatt_hours(outcome) * cluster.prices.usd_per_kwh;
    });
  }
}

// Runs that end before machines join have fewer phases; all that have one are counted in it.
void fill_phases(const ClusterConfig& cluster, const RunPlan& plan, const Roster& roster, RunHistory& history) {
  size_t num_phases = 0;
  for (const FleetOutcome& outcome : history.outcomes) num_phases = std::max(num_phases, outcome.phases.size());
  for (size_t i = 0; i < num_phases; ++i) {
    GrowthPhase phase;
    std::vector<double> days, useful, steps, joined;
    for (const FleetOutcome& outcome : history.outcomes) {
      if (i >= outcome.phases.size()) continue;
      const FleetPhase& played = outcome.phases[i];
      phase.from_day = played.from_day;
      phase.data_ranks = played.data_ranks;
      phase.whole_rate = played.whole_rate;
      days.push_back(played.days);
      useful.push_back(played.useful);
      steps.push_back(played.work_days * kDaySeconds / plan.step_seconds);
      joined.push_back(24 * played.joined_days);
    }
    double speed = 0;
    for (const MachineKind& kind : roster.kinds) {
      if (kind.arrives_day <= phase.from_day) speed += kind.speed * kind.data_ranks;
    }
    phase.even_rate = speed / roster.shape.data_ranks;
    for (const PoolSpec& pool : cluster.pools) {
      if (pool.arrives_day <= phase.from_day) phase.gpus += pool.num_gpus();
    }
    phase.days = spread_of(std::move(days));
    phase.useful = spread_of(std::move(useful));
    phase.steps = spread_of(std::move(steps));
    phase.joined_hours = spread_of(std::move(joined));
    history.phases.push_back(phase);
  }
}

}  // namespace

double checkpoint_write_seconds(const ClusterConfig& cluster, const RunPlan& plan, int64_t gpus) {
  const double state_gb = plan.state_gb.value_or(plan.state_gb_per_gpu * static_cast<double>(plan.gpus_per_data_rank));
  const double nodes = static_cast<double>(gpus) / static_cast<double>(cluster.pools.front().gpus_per_node);
  return std::max(state_gb / cluster.storage.store_gb_per_second,
                  state_gb / nodes / cluster.storage.store_node_gb_per_second);
}

double checkpoint_load_seconds(const ClusterConfig& cluster, const RunPlan& plan, int64_t gpus) {
  return checkpoint_write_seconds(cluster, plan, gpus) + peer_load_seconds(cluster, plan);
}

double checkpoint_stall_seconds(const ClusterConfig& cluster, const RunPlan& plan) {
  double slowest = 0;
  for (const PoolSpec& pool : cluster.pools) {
    const double bandwidth =
        pool.gpu.host_gb_per_second > 0 ? pool.gpu.host_gb_per_second : pool.gpu.memory_gb_per_second;
    slowest = std::max(slowest, plan.state_gb_per_gpu / bandwidth);
  }
  return slowest;
}

double checkpoint_interval(double stall, double mtbf, double write) {
  return std::max(write, std::sqrt(2 * stall * mtbf));
}

Result<RunHistory> play_runs(const ClusterConfig& cluster, const RunPlan& plan, ThreadPool& threads) {
  RETURN_IF_ERROR(check_plan(cluster, plan));
  ASSIGN_OR_RETURN(const Roster roster, make_roster(cluster, plan));
  const FleetSimulationOptions options = options_of(cluster, plan, roster);
  std::vector<std::optional<Result<FleetOutcome>>> played(static_cast<size_t>(plan.num_runs));
  // Runs differ in length: whoever is done takes the next.
  std::atomic<int64_t> next = 0;
  threads.run([&](int) {
    FleetSimulationOptions mine = options;
    for (int64_t run = next++; run < plan.num_runs; run = next++) {
      mine.run = static_cast<uint64_t>(run);
      played[static_cast<size_t>(run)] = simulate_fleet(mine);
    }
  });
  RunHistory history;
  for (const auto& outcome : played) {
    RETURN_IF_ERROR(*outcome);
    history.outcomes.push_back(outcome->value());
  }
  history.days = spread_over(history.outcomes, [](const FleetOutcome& outcome) { return outcome.days; });
  if (plan.steps) {
    history.num_unfinished =
        std::ranges::count_if(history.outcomes, [&](const FleetOutcome& outcome) { return outcome.days >= plan.days; });
  }
  fill_shares(history);
  fill_interruptions(options, history);
  fill_phases(cluster, plan, roster, history);
  fill_cost(cluster, roster, history);
  const double steps_per_day = kDaySeconds / plan.step_seconds;
  history.steps = {history.work_days.mean * steps_per_day, history.work_days.low * steps_per_day,
                   history.work_days.median * steps_per_day, history.work_days.high * steps_per_day};
  history.checkpoint_every_seconds = options.checkpoint_every_seconds;
  history.checkpoint_stall_seconds = options.checkpoint_seconds;
  history.data_ranks = roster.shape.data_ranks;
  return history;
}

Result<RunHistory> price_runs(const ClusterConfig& cluster, const RunPlan& plan, RunHistory played) {
  ASSIGN_OR_RETURN(const Roster roster, make_roster(cluster, plan));
  for (const FleetOutcome& outcome : played.outcomes) {
    if (outcome.kinds.size() != roster.kinds.size()) return invalid("these runs were played on other pools");
  }
  fill_cost(cluster, roster, played);
  return played;
}

}  // namespace colossus
