#include "train/recovery/fleet.h"

#include <fmt/format.h>

#include <algorithm>

namespace colossus {

Status check(const FleetShape& shape) {
  const int per_machine = shape.ranks_per_machine, per_data_rank = shape.ranks_per_data_rank;
  if (per_machine < 1 || per_data_rank < 1 || shape.data_ranks < 1 || shape.num_spares < 0) {
    return invalid("a fleet needs at least one rank on a machine, in a data rank, and one data rank");
  }
  if (per_machine % per_data_rank != 0 && per_data_rank % per_machine != 0) {
    return invalid(fmt::format("{} ranks of a machine and {} of a data rank: one must divide the other", per_machine,
                               per_data_rank));
  }
  if (shape.data_ranks % shape.data_ranks_per_block() != 0) {
    return invalid(fmt::format("{} data ranks do not fill whole machines; a machine holds {}", shape.data_ranks,
                               shape.data_ranks_per_block()));
  }
  constexpr int64_t kMaxRanks = int64_t{1} << 30;
  if (int64_t{shape.data_ranks} * per_data_rank > kMaxRanks || shape.num_spares > kMaxRanks) {
    return invalid(fmt::format("a fleet of {} data ranks of {} ranks is too large", shape.data_ranks, per_data_rank));
  }
  return ok_status();
}

std::string Fleet::machine_name(int machine) const {
  if (machine < 0) return "no machine";
  if (static_cast<size_t>(machine) < machine_names.size()) return machine_names[static_cast<size_t>(machine)];
  return fmt::format("machine {}", machine);
}

std::string Fleet::rank_name(int rank) const {
  return fmt::format("rank {} ({})", rank, machine_name(machine_of_slot[static_cast<size_t>(slot_of_rank(rank))]));
}

Fleet make_fleet(const FleetShape& shape, double now) {
  CHECK(check(shape).ok(), "the shape of the fleet must have been checked");
  Fleet fleet{.shape = shape, .num_blocks = shape.num_blocks()};
  fleet.machines.resize(static_cast<size_t>(shape.num_machines()));
  for (int machine = 0; machine < shape.num_machines(); ++machine) {
    if (machine < shape.num_slots()) {
      fleet.machine_of_slot.push_back(machine);
      fleet.machines[static_cast<size_t>(machine)] = {.state = MachineState::kInRun, .slot = machine};
    } else {
      fleet.spares.emplace(0, machine);
    }
  }
  fleet.machine_seen_at = RangeMap<double>(shape.num_machines(), now);
  fleet.ranks = RangeMap<RankReport>(fleet.num_ranks(), {.seen_at = now, .progress_at = now});
  fleet.processes = RangeMap<int64_t>(fleet.num_ranks(), 0);
  fleet.generation_since = now;
  fleet.trusted_since = now;
  return fleet;
}

void observe(Fleet& fleet, const MachineHeartbeat& heartbeat) {
  CHECK(heartbeat.first_machine >= 0 && heartbeat.first_machine <= heartbeat.end_machine &&
        heartbeat.end_machine <= static_cast<int>(fleet.machines.size()));
  fleet.machine_seen_at.assign(heartbeat.first_machine, heartbeat.end_machine, heartbeat.time);
}

void observe(Fleet& fleet, const RankHeartbeat& heartbeat) {
  if (heartbeat.generation != fleet.generation) return;
  CHECK(heartbeat.first_rank >= 0 && heartbeat.first_rank <= heartbeat.end_rank &&
        heartbeat.end_rank <= fleet.num_ranks());
  fleet.ranks.update(heartbeat.first_rank, heartbeat.end_rank, [&](RankReport& report) {
    report.seen_at = heartbeat.time;
    const bool joins = report.generation != fleet.generation;
    if (joins || heartbeat.step > report.step || heartbeat.collective > report.collective) {
      report.generation = fleet.generation;
      report.step = heartbeat.step;
      report.collective = heartbeat.collective;
      report.progress_at = heartbeat.time;
    }
    report.waits_in = heartbeat.waits_in;
  });
  if (heartbeat.step > fleet.best_step && heartbeat.first_rank < heartbeat.end_rank) {
    fleet.best_step = heartbeat.step;
    fleet.num_fruitless = 0;
  }
}

void observe(Fleet& fleet, const RankExit& exit) {
  CHECK(exit.machine >= 0 && exit.machine < static_cast<int>(fleet.machines.size()) && exit.local_rank >= 0 &&
        exit.local_rank < fleet.shape.ranks_per_machine);
  const Machine& machine = fleet.machines[static_cast<size_t>(exit.machine)];
  if (machine.state != MachineState::kInRun) return;
  const int rank = machine.slot * fleet.shape.ranks_per_machine + exit.local_rank;
  if (fleet.processes.at(rank) != exit.process || fleet.ranks.at(rank).finished || fleet.pending.contains(rank)) return;
  if (exit.code == 0 && exit.signal == 0) {
    fleet.ranks.update(rank, rank + 1, [](RankReport& finished) { finished.finished = true; });
    ++fleet.num_finished;
    return;
  }
  if (std::ranges::any_of(fleet.faults, [&](const RankFault& fault) { return fault.rank == rank; })) return;
  fleet.faults.push_back({.rank = rank,
                          .process = exit.process,
                          .code = exit.code,
                          .signal = exit.signal,
                          .what = exit.signal != 0 ? fmt::format("was ended by signal {}", exit.signal)
                                                   : fmt::format("ended with code {}", exit.code)});
}

void observe(Fleet& fleet, const WrongNumbers& wrong) {
  if (wrong.rank < 0 || wrong.rank >= fleet.num_ranks() || fleet.processes.at(wrong.rank) != wrong.process) return;
  if (fleet.pending.contains(wrong.rank)) return;
  std::erase_if(fleet.faults, [&](const RankFault& fault) { return fault.rank == wrong.rank; });
  fleet.faults.push_back(
      {.rank = wrong.rank, .process = wrong.process, .what = "computed wrong numbers", .wrong_numbers = true});
}

void observe(Fleet& fleet, const MachineReady& ready) {
  CHECK(ready.machine >= 0 && ready.machine < static_cast<int>(fleet.machines.size()));
  fleet.machine_seen_at.assign(ready.machine, ready.machine + 1, ready.time);
  Machine& machine = fleet.machines[static_cast<size_t>(ready.machine)];
  if (machine.state == MachineState::kInRun) {
    for (int local_rank = 0; local_rank < fleet.shape.ranks_per_machine; ++local_rank) {
      const int rank = machine.slot * fleet.shape.ranks_per_machine + local_rank;
      if (fleet.pending.contains(rank)) continue;
      fleet.faults.push_back({.rank = rank,
                              .process = fleet.processes.at(rank),
                              .code = -1,
                              .what = "is gone, for its machine was started anew"});
    }
    return;
  }
  machine.state = MachineState::kSpare;
  fleet.spares.emplace(machine.num_faults, ready.machine);
}

void observe(Fleet& fleet, const StepTimes& times, int window_steps) {
  if (times.generation != fleet.generation) return;
  const auto push = [&](SlowWindow& window, float ratio) {
    if (window.last_step == times.step) return;  // told twice
    window.last_step = times.step;
    window.ratios.push_back(ratio);
    if (static_cast<int>(window.ratios.size()) > window_steps) window.ratios.pop_front();
  };
  for (const SlowRank& slow : times.slow) push(fleet.slow[slow.rank], slow.ratio);
  for (auto window = fleet.slow.begin(); window != fleet.slow.end();) {
    push(window->second, 1);
    const bool even = std::ranges::all_of(window->second.ratios, [](float ratio) { return ratio <= 1; });
    window = even ? fleet.slow.erase(window) : std::next(window);
  }
}

std::vector<SlowRank> slower_than_peers(const FleetShape& shape, const std::vector<float>& seconds, float ratio) {
  const size_t stride = static_cast<size_t>(shape.ranks_per_data_rank);
  const size_t num_peers = seconds.size() / stride;
  std::vector<SlowRank> slow;
  if (num_peers < 3) return slow;
  std::vector<float> peers(num_peers);
  for (size_t place = 0; place < stride; ++place) {
    for (size_t i = 0; i < num_peers; ++i) peers[i] = seconds[i * stride + place];
    const auto middle = peers.begin() + static_cast<std::ptrdiff_t>(num_peers / 2);
    std::nth_element(peers.begin(), middle, peers.end());
    const float median = *middle;
    for (size_t rank = place; rank < seconds.size(); rank += stride) {
      if (seconds[rank] > ratio * median) slow.push_back({static_cast<int>(rank), seconds[rank] / median});
    }
  }
  std::ranges::sort(slow, {}, &SlowRank::rank);
  return slow;
}

}  // namespace colossus
