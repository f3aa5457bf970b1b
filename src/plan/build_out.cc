#include "plan/build_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <tuple>

#include "base/rng.h"

namespace colossus {
namespace {

constexpr double kHours = 1.0 / 24;  // of a day
constexpr double kNever = std::numeric_limits<double>::infinity();

int64_t num_racks(const ClusterConfig& cluster) {
  return (cluster.num_gpus() + cluster.racks.gpus_per_rack - 1) / cluster.racks.gpus_per_rack;
}

struct Played {
  std::vector<double> first_step;  // of each target; days from the first rack
  double first_rack = 0;           // day
  double delivered = 0, installed = 0, cabled = 0, arrays = 0;
  int64_t repairs = 0, early_failures = 0;
};

// Those who can do one thing at a time. Whoever comes first is served first, so callers come in the order of time.
class Crews {
 public:
  explicit Crews(int64_t count) {
    for (int64_t i = 0; i < count; ++i) free_at_.push(0);
  }
  // When work that came at `time` and takes `days` is done.
  double work(double time, double days) {
    const double begin = std::max(time, free_at_.top());
    free_at_.pop();
    free_at_.push(begin + days);
    return begin + days;
  }

 private:
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at_;
};

class BuildOutRun {
 public:
  BuildOutRun(const ClusterConfig& cluster, std::vector<int64_t> target_nodes, uint64_t seed, uint64_t run)
      : spec_(cluster.build_out),
        racks_(cluster.racks),
        num_nodes_(cluster.num_nodes()),
        num_racks_(num_racks(cluster)),
        targets_(std::move(target_nodes)),
        key_{.seed = seed, .purpose = RngPurpose::kBuildOut, .step = run},
        repair_crews_(cluster.build_out.repair_crews) {}

  Played run() {
    played_.first_step.resize(targets_.size(), kNever);
    test(raise_arrays());
    return std::move(played_);
  }

 private:
  enum class What { kTested, kPartThere, kFails };
  struct Event {
    double time;
    int64_t node;
    What what;
    bool operator>(const Event& other) const {
      return std::tie(time, node, what) > std::tie(other.time, other.node, other.what);
    }
  };

  // The same draws for the same node, whatever else changes: so that runs with other crews can be compared.
  double draw(int64_t node, int64_t which) const {
    constexpr int64_t kDrawsPerNode = 1024;
    const uint64_t index = static_cast<uint64_t>(node * kDrawsPerNode + which % kDrawsPerNode);
    return (static_cast<double>(random_bits(key_, index)) + 0.5) / 4294967296.0;
  }

  std::vector<double> deliver() {
    constexpr uint64_t kDays = uint64_t{1} << 48;  // beyond the draws of nodes
    std::vector<double> times;
    double owed = 0;  // parts of racks
    for (int64_t day = 0; static_cast<int64_t>(times.size()) < num_racks_ && day < kMaxBuildOutDays; ++day) {
      const double deviation = random_normal(key_, kDays + static_cast<uint64_t>(day));
      owed += std::max(0.0, spec_.racks_per_day * (1 + spec_.delivery_spread * deviation));
      const int64_t count = std::min(static_cast<int64_t>(owed), num_racks_ - static_cast<int64_t>(times.size()));
      owed -= std::floor(owed);
      for (int64_t i = 0; i < count; ++i) {
        times.push_back(static_cast<double>(day) + static_cast<double>(i) / static_cast<double>(count));
      }
    }
    times.resize(static_cast<size_t>(num_racks_), kNever);
    played_.first_rack = times.front();
    for (double& time : times) time -= played_.first_rack;
    return times;
  }

  // Days when arrays are up. A rack is cabled once it is placed; racks of an array come one after the other.
  std::vector<double> raise_arrays() {
    std::vector<std::pair<double, int64_t>> racks;  // when it goes on, which
    for (const double time : deliver()) racks.emplace_back(time, static_cast<int64_t>(racks.size()));
    played_.delivered = racks.back().first;
    const auto pass = [&](int64_t crews, double hours) {
      std::ranges::sort(racks);
      Crews queue(crews);
      double last = 0;
      for (auto& [time, rack] : racks) last = std::max(last, time = queue.work(time, hours * kHours));
      return last;
    };
    played_.installed = pass(spec_.install_crews, spec_.install_hours_per_rack);
    played_.cabled = pass(spec_.cable_crews, spec_.cable_hours_per_rack);
    std::vector<double> arrays(static_cast<size_t>((num_racks_ + racks_.racks_per_array - 1) / racks_.racks_per_array));
    for (const auto& [time, rack] : racks) {
      double& up = arrays[static_cast<size_t>(rack / racks_.racks_per_array)];
      up = std::max(up, time + spec_.array_hours * kHours);
    }
    played_.arrays = *std::ranges::max_element(arrays);
    return arrays;
  }

  void test(const std::vector<double>& arrays) {
    draws_.resize(static_cast<size_t>(num_nodes_));
    born_.resize(static_cast<size_t>(num_nodes_), kNever);
    const int64_t nodes_per_array =
        (num_nodes_ + static_cast<int64_t>(arrays.size()) - 1) / static_cast<int64_t>(arrays.size());
    for (int64_t node = 0; node < num_nodes_; ++node) {
      const double up = arrays[static_cast<size_t>(node / nodes_per_array)];
      events_.push({up + spec_.burn_in_hours * kHours, node, What::kTested});
    }
    size_t reached = 0;
    while (!events_.empty() && reached < targets_.size() && events_.top().time < kMaxBuildOutDays) {
      const Event event = events_.top();
      events_.pop();
      happen(event);
      while (reached < targets_.size() && num_good_ >= targets_[reached]) {
        played_.first_step[reached++] = event.time + spec_.first_step_hours * kHours;
      }
    }
  }

  double next_draw(int64_t node) { return draw(node, draws_[static_cast<size_t>(node)]++); }

  void happen(const Event& event) {
    switch (event.what) {
      case What::kTested: {
        double& born = born_[static_cast<size_t>(event.node)];
        const bool first = draws_[static_cast<size_t>(event.node)] == 0;
        if (next_draw(event.node) < (first ? spec_.node_pass_rate : spec_.retest_pass_rate)) {
          ++num_good_;
          if (born == kNever) born = event.time;
          plan_early_failure(event);
        } else {
          repair(event);
        }
        return;
      }
      case What::kPartThere: {
        const double repaired = repair_crews_.work(event.time, spec_.repair_hours * kHours);
        events_.push({repaired + spec_.burn_in_hours * kHours, event.node, What::kTested});
        return;
      }
      case What::kFails:
        --num_good_;
        ++played_.early_failures;
        repair(event);
        return;
    }
  }

  void repair(const Event& event) {
    ++played_.repairs;
    events_.push({event.time - std::log(next_draw(event.node)) * spec_.parts_days, event.node, What::kPartThere});
  }

  // Failures of age t so far, in the mean: F · (t / T)^k. A repair makes nothing younger: the next failure comes when
  // that has grown by a draw of the exponential law.
  void plan_early_failure(const Event& event) {
    if (spec_.early_failures_per_node == 0) return;
    const double age = event.time - born_[static_cast<size_t>(event.node)];
    const double so_far = spec_.early_failures_per_node * std::pow(age / spec_.early_days, spec_.weibull_shape);
    const double then = so_far - std::log(next_draw(event.node));
    const double next_age = spec_.early_days * std::pow(then / spec_.early_failures_per_node, 1 / spec_.weibull_shape);
    events_.push({event.time + next_age - age, event.node, What::kFails});
  }

  const BuildOutSpec& spec_;
  const RackSpec& racks_;
  const int64_t num_nodes_, num_racks_;
  const std::vector<int64_t> targets_;  // nodes, growing
  const RngKey key_;
  Crews repair_crews_;
  Played played_;
  std::vector<int64_t> draws_;  // made so far, by node
  std::vector<double> born_;    // when it first passed
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  int64_t num_good_ = 0;
};

// Nodes of the targets. Pools of several sizes of node count as of their mean.
Result<std::vector<int64_t>> target_nodes(const ClusterConfig& cluster, const std::vector<int64_t>& gpus) {
  if (!std::ranges::is_sorted(gpus)) return invalid("targets of GPUs have to grow");
  std::vector<int64_t> nodes;
  for (const int64_t target : gpus) {
    if (target < 1 || target > cluster.num_gpus()) {
      return invalid(fmt::format("{} GPUs of {}, which has {}", target, cluster.name, cluster.num_gpus()));
    }
    nodes.push_back((target * cluster.num_nodes() + cluster.num_gpus() - 1) / cluster.num_gpus());
  }
  return nodes;
}

std::vector<Played> play_all(const ClusterConfig& cluster, const std::vector<int64_t>& nodes, const BuildOutPlan& plan,
                             ThreadPool& threads) {
  std::vector<Played> played(static_cast<size_t>(plan.num_runs));
  std::atomic<int> next = 0;
  threads.run([&](int) {
    for (int run = next++; run < plan.num_runs; run = next++) {
      played[static_cast<size_t>(run)] = BuildOutRun(cluster, nodes, plan.seed, static_cast<uint64_t>(run)).run();
    }
  });
  return played;
}

Spread spread_over(const std::vector<Played>& played, const std::function<double(const Played&)>& measure) {
  std::vector<double> values;
  for (const Played& run : played) values.push_back(std::min(measure(run), kMaxBuildOutDays));
  return spread_of(std::move(values));
}

// Scales racks and crews, or sets one field; whole numbers are kept.
ClusterConfig changed(ClusterConfig cluster, const std::string& field, double value) {
  BuildOutSpec& spec = cluster.build_out;
  const auto crews = [](int64_t now, double by) {
    return std::max<int64_t>(1, std::llround(static_cast<double>(now) * by));
  };
  if (field == "racks_per_day and crews") {
    spec.racks_per_day *= value;
    spec.install_crews = crews(spec.install_crews, value);
    spec.cable_crews = crews(spec.cable_crews, value);
    spec.repair_crews = crews(spec.repair_crews, value);
    return cluster;
  }
  NumberVisitor visitor(field, value);
  visitor.visit_struct(spec);
  CHECK(visitor.fault().empty(), visitor.fault().c_str());
  return cluster;
}

}  // namespace

int64_t trainable_gpus(const ClusterConfig& cluster) {
  int64_t gpus = 0;
  for (const PoolSpec& pool : cluster.pools) gpus += (pool.nodes - pool.spare_nodes) * pool.gpus_per_node;
  return gpus;
}

std::vector<BuildOutBound> build_out_bounds(const ClusterConfig& cluster) {
  const BuildOutSpec& spec = cluster.build_out;
  const auto racks = static_cast<double>(num_racks(cluster)), nodes = static_cast<double>(cluster.num_nodes());
  // Those that fail the first time, each until it passes.
  const double repairs = nodes * (1 - spec.node_pass_rate) / spec.retest_pass_rate;
  const auto crew_days = [](double jobs, double hours, int64_t crews) {
    return jobs * hours * kHours / static_cast<double>(crews);
  };
  std::vector<BuildOutBound> bounds = {
      {"delivering racks", racks / spec.racks_per_day,
       fmt::format("{} racks at {:g} a day", racks, spec.racks_per_day)},
      {"placing them", crew_days(racks, spec.install_hours_per_rack, spec.install_crews),
       fmt::format("{} crews, {:g} hours a rack", spec.install_crews, spec.install_hours_per_rack)},
      {"cabling them", crew_days(racks, spec.cable_hours_per_rack, spec.cable_crews),
       fmt::format("{} crews, {:g} hours a rack", spec.cable_crews, spec.cable_hours_per_rack)},
      {"repairing nodes that fail their test", crew_days(repairs, spec.repair_hours, spec.repair_crews),
       fmt::format("{:.0f} repairs, {} crews, {:g} hours each", repairs, spec.repair_crews, spec.repair_hours)},
      {"one after the other: array, load, first step",
       (spec.array_hours + spec.burn_in_hours + spec.first_step_hours) * kHours,
       fmt::format("{:g}, {:g} and {:g} hours", spec.array_hours, spec.burn_in_hours, spec.first_step_hours)}};
  std::ranges::stable_sort(bounds, std::greater<>(), &BuildOutBound::days);
  return bounds;
}

Result<BuildOut> play_build_out(const ClusterConfig& cluster, const BuildOutPlan& plan, ThreadPool& threads) {
  if (plan.num_runs < 1) return invalid("at least one run has to be played");
  BuildOut result;
  const std::vector<int64_t> gpus = plan.gpus.empty() ? std::vector{trainable_gpus(cluster)} : plan.gpus;
  ASSIGN_OR_RETURN(const std::vector<int64_t> nodes, target_nodes(cluster, gpus));
  const std::vector<Played> played = play_all(cluster, nodes, plan, threads);
  const double site_days = cluster.build_out.site_days;
  for (size_t i = 0; i < gpus.size(); ++i) {
    BuildOutTarget target{.gpus = gpus[i]};
    target.days =
        spread_over(played, [&](const Played& run) { return site_days + run.first_rack + run.first_step[i]; });
    target.floor_days = spread_over(played, [&](const Played& run) { return run.first_step[i]; });
    target.share_reached =
        spread_over(played, [&](const Played& run) { return std::isfinite(run.first_step[i]) ? 1.0 : 0.0; }).mean;
    result.targets.push_back(target);
  }
  result.nodes = cluster.num_nodes();
  result.racks = num_racks(cluster);
  result.arrays = (result.racks + cluster.racks.racks_per_array - 1) / cluster.racks.racks_per_array;
  result.delivered_days = spread_over(played, [](const Played& run) { return run.delivered; });
  result.installed_days = spread_over(played, [](const Played& run) { return run.installed; });
  result.cabled_days = spread_over(played, [](const Played& run) { return run.cabled; });
  result.arrays_days = spread_over(played, [](const Played& run) { return run.arrays; });
  result.repairs = spread_over(played, [](const Played& run) { return static_cast<double>(run.repairs); });
  result.early_failures =
      spread_over(played, [](const Played& run) { return static_cast<double>(run.early_failures); });
  return result;
}

Result<std::vector<BuildOutNeed>> what_must_be_true(const ClusterConfig& cluster, int64_t gpus, double floor_days,
                                                    const BuildOutPlan& plan, ThreadPool& threads) {
  if (plan.num_runs < 1) return invalid("at least one run has to be played");
  ASSIGN_OR_RETURN(const std::vector<int64_t> nodes, target_nodes(cluster, {gpus}));
  const auto suffices = [&](const std::string& field, double value) {
    const std::vector<Played> played = play_all(changed(cluster, field, value), nodes, plan, threads);
    return spread_over(played, [](const Played& run) { return run.first_step[0]; }).median <= floor_days;
  };
  constexpr double kLeastScale = 1.0 / 16, kMostScale = 64;
  struct Candidate {
    std::string field;
    double now, worst, best;
  };
  std::vector<Candidate> candidates = {{"racks_per_day and crews", 1, kLeastScale, kMostScale}};
  for (const AssumedNumber& assumed : assumptions_of(cluster.build_out)) {
    // Before the first rack; and a law's shape is nobody's to choose.
    if (assumed.path == "site_days" || assumed.path == "weibull_shape") continue;
    const bool more_is_better =
        assumed.path.ends_with("crews") || assumed.path.ends_with("pass_rate") || assumed.path == "racks_per_day";
    candidates.push_back({assumed.path, assumed.value, more_is_better ? assumed.low : assumed.high,
                          more_is_better ? assumed.high : assumed.low});
  }
  std::vector<BuildOutNeed> needs;
  for (const Candidate& candidate : candidates) {
    BuildOutNeed need{.field = candidate.field, .now = candidate.now};
    if (suffices(candidate.field, candidate.worst)) {
      need.needed = candidate.worst;
    } else if (suffices(candidate.field, candidate.best)) {
      double enough = candidate.best, too_little = candidate.worst;
      constexpr int kHalvings = 12;
      for (int i = 0; i < kHalvings; ++i) {
        const double middle = (enough + too_little) / 2;
        (suffices(candidate.field, middle) ? enough : too_little) = middle;
      }
      need.needed = enough;
    }
    needs.push_back(std::move(need));
  }
  return needs;
}

}  // namespace colossus
