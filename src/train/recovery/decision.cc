#include "train/recovery/decision.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace colossus {
namespace {

std::string seconds(double value) { return fmt::format("{:.0f} s", std::max(0.0, value)); }

class Decider {
 public:
  Decider(const RecoveryPolicy& policy, Fleet& fleet, double now)
      : policy_(policy), fleet_(fleet), now_(now), next_generation_(fleet.generation + 1) {}

  std::vector<Action> run() {
    if (!fleet_.stopped.empty()) return proceed("the run stopped: " + fleet_.stopped);
    if (const auto minority = cut_off()) return proceed(*minority);
    lose_silent_machines();
    if (const auto stop = judge_faults()) return *stop;
    if (fleet_.num_finished == fleet_.num_ranks()) {
      return stop(fmt::format("all {} ranks have finished", fleet_.num_ranks()), "", /*finished=*/true);
    }
    if (fleet_.vacant.empty() && fleet_.pending.empty()) {
      if (const auto stop = judge_silence_and_hangs()) return *stop;
    }
    if (!fleet_.vacant.empty() || !fleet_.pending.empty()) return repair();
    if (const auto slow = drain_straggler()) return *slow;
    if (const auto more = grow()) return *more;
    return proceed(fmt::format("{} ranks live; step {} is done", fleet_.num_ranks(), fleet_.best_step));
  }

 private:
  static std::vector<Action> proceed(std::string reason) { return {{Continue(), std::move(reason)}}; }

  std::vector<Action> stop(std::string reason, std::string advice, bool finished = false) {
    fleet_.stopped = reason;
    return {{Stop{.finished = finished, .advice = std::move(advice)}, std::move(reason)}};
  }

  const Machine& machine(int id) const { return fleet_.machines[static_cast<size_t>(id)]; }
  int machine_of(int slot) const { return fleet_.machine_of_slot[static_cast<size_t>(slot)]; }

  // Silence of the majority. Deaths are not told from one's own deafness until the others are heard again, and then
  // everyone gets the whole time anew.
  std::optional<std::string> cut_off() {
    int num_silent = 0, num_in_run = fleet_.num_slots() - static_cast<int>(fleet_.vacant.size());
    fleet_.machine_seen_at.for_each([&](int begin, int end, double seen_at) {
      if (now_ - seen_at <= policy_.dead_after_seconds) return;
      for (int id = begin; id < end; ++id) num_silent += machine(id).state == MachineState::kInRun ? 1 : 0;
    });
    if (2 * num_silent <= num_in_run) return std::nullopt;
    fleet_.trusted_since = now_;
    return fmt::format("{} of {} machines are silent: this side is cut off, or all lost power; nothing is done",
                       num_silent, num_in_run);
  }

  void lose_silent_machines() {
    std::vector<std::pair<int, double>> dead;
    fleet_.machine_seen_at.for_each([&](int begin, int end, double seen_at) {
      const double silent = now_ - std::max(seen_at, fleet_.trusted_since);
      if (silent <= policy_.dead_after_seconds) return;
      for (int id = begin; id < end; ++id) {
        if (machine(id).state == MachineState::kInRun) dead.emplace_back(id, silent);
      }
    });
    for (const auto& [id, silent] : dead) {
      lose_machine(machine(id).slot, fmt::format("{} is silent for {}", fleet_.machine_name(id), seconds(silent)));
    }
  }

  void lose_machine(int slot, std::string reason) {
    const int id = machine_of(slot);
    Machine& lost = fleet_.machines[static_cast<size_t>(id)];
    lost = {.state = MachineState::kOutOfOrder, .num_faults = lost.num_faults + 1};
    fleet_.machine_of_slot[static_cast<size_t>(slot)] = -1;
    fleet_.vacant[slot] = {.machine = id, .reason = std::move(reason)};
    const int first_rank = slot * fleet_.shape.ranks_per_machine;
    erase_range(fleet_.pending, first_rank, first_rank + fleet_.shape.ranks_per_machine);
  }

  template <class Map>
  static void erase_range(Map& map, int begin, int end) {
    map.erase(map.lower_bound(begin), map.lower_bound(end));
  }

  std::optional<std::vector<Action>> judge_faults() {
    const std::vector<RankFault> faults = std::exchange(fleet_.faults, {});
    for (const RankFault& fault : faults) {
      if (fault.rank >= fleet_.num_ranks() || machine_of(fleet_.slot_of_rank(fault.rank)) < 0) continue;
      if (fleet_.processes.at(fault.rank) != fault.process || fleet_.pending.contains(fault.rank)) continue;
      const std::string what = fmt::format("{} {}", fleet_.rank_name(fault.rank), fault.what);
      if (fault.wrong_numbers) {
        if (auto stopped = distrust(fault.rank, what)) return stopped;
        continue;
      }
      if (fault.signal == 0 && fault.code == policy_.hopeless_exit_code) {
        return stop(what + ", which says that trying again will not help", "read its log, mend what it names, resume");
      }
      if (fault.signal == 0 && fault.code == policy_.peer_lost_exit_code) {
        // Whom it lost is known a little later.
        fleet_.pending[fault.rank] = {.due = now_ + policy_.dead_after_seconds,
                                      .reason = what + ", having lost a peer"};
      } else if (auto stopped = restart_or_replace(fault.rank, what)) {
        return stopped;
      }
    }
    return std::nullopt;
  }

  double backoff(size_t times) const {
    return std::min(policy_.longest_backoff_seconds,
                    std::ldexp(policy_.backoff_seconds, static_cast<int>(std::min<size_t>(times, 60))));
  }

  // A rank that needs a new process: the ladder of restart, replacement, stop.
  std::optional<std::vector<Action>> restart_or_replace(int rank, const std::string& what) {
    RankHistory& history = fleet_.history[rank];
    const double window_begin = now_ - policy_.restart_window_seconds;
    while (!history.restarts.empty() && history.restarts.front() < window_begin) history.restarts.pop_front();
    const size_t times = history.restarts.size();
    if (static_cast<int>(times) < policy_.max_restarts) {
      history.restarts.push_back(now_);
      fleet_.pending[rank] = {.due = now_ + backoff(times), .reason = what};
      return std::nullopt;
    }
    const std::string often =
        fmt::format("{}, after {} restarts within {}", what, times, seconds(now_ - history.restarts.front()));
    if (history.replaced_at >= window_begin) {
      return stop(often + ", and before that on another machine: the fault moves with the rank",
                  "it is in the program or its data: read this rank's log, mend it, resume");
    }
    if (live_spares(1).empty() && !can_shrink()) {
      return stop(often + ", and no machine is spare", "check this machine or add one, resume");
    }
    history.restarts.clear();
    history.replaced_at = now_;
    lose_machine(fleet_.slot_of_rank(rank), often);
    return std::nullopt;
  }

  // What has erred once will again, and then maybe where nobody looks: the machine goes, not the process alone.
  std::optional<std::vector<Action>> distrust(int rank, const std::string& what) {
    if (live_spares(1).empty() && !can_shrink()) return restart_or_replace(rank, what);
    RankHistory& history = fleet_.history[rank];
    if (history.replaced_at >= now_ - policy_.restart_window_seconds) {
      return stop(what + ", and before that on another machine: the fault moves with the rank",
                  "it is in the program or its settings, or both machines err: run `colossus check` there");
    }
    history.replaced_at = now_;
    lose_machine(fleet_.slot_of_rank(rank), what);
    return std::nullopt;
  }

  // Only while nobody is known to be missing: all others wait for that one.
  std::optional<std::vector<Action>> judge_silence_and_hangs() {
    std::vector<std::pair<int, std::string>> silent;
    Progress progress;
    fleet_.ranks.for_each([&](int begin, int end, const RankReport& report) {
      if (report.finished) return;
      const bool joined = report.generation == fleet_.generation;
      const bool starts = report.generation < 0;
      const double heard_at =
          std::max({report.seen_at, fleet_.trusted_since, starts ? report.seen_at : fleet_.generation_since});
      if (now_ - heard_at > (starts ? policy_.start_within_seconds : policy_.dead_after_seconds)) {
        for (int rank = begin; rank < end; ++rank) {
          const int id = machine_of(fleet_.slot_of_rank(rank));
          // It may be the machine, which was last heard a moment later.
          if (fleet_.machine_seen_at.at(id) - heard_at < policy_.dead_after_seconds / 2) continue;
          silent.emplace_back(rank, fmt::format("{} is silent for {} while its machine answers", fleet_.rank_name(rank),
                                                seconds(now_ - heard_at)));
        }
      }
      if (joined) progress.add(begin, end, report, std::max(fleet_.generation_since, fleet_.trusted_since));
    });
    for (const auto& [rank, what] : silent) {
      if (machine_of(fleet_.slot_of_rank(rank)) < 0) continue;  // replaced for one of its other ranks
      if (auto stopped = restart_or_replace(rank, what)) return stopped;
    }
    if (!silent.empty() || progress.num_ranks < fleet_.num_ranks() - fleet_.num_finished) return std::nullopt;
    return judge_hang(progress);
  }

  // Who has come least far: everyone else waits for these.
  struct Progress {
    int num_ranks = 0;
    std::pair<int64_t, int64_t> least = {INT64_MAX, INT64_MAX};  // step, collective
    std::vector<std::pair<int, int>> last;                       // ranges of ranks there
    double last_since = 0;                                       // the latest that one of them came there
    std::string others_wait_in;

    void add(int begin, int end, const RankReport& report, double not_before) {
      num_ranks += end - begin;
      const std::pair position(report.step, report.collective);
      if (position > least) {
        if (others_wait_in.empty()) others_wait_in = report.waits_in;
        return;
      }
      if (position < least) {
        if (!last.empty()) others_wait_in = waits_in;
        least = position;
        last.clear();
        last_since = not_before;
        waits_in.clear();
      }
      last.emplace_back(begin, end);
      last_since = std::max(last_since, report.progress_at);
      if (waits_in.empty()) waits_in = report.waits_in;
    }
    int num_last() const {
      int count = 0;
      for (const auto& [begin, end] : last) count += end - begin;
      return count;
    }
    std::string waits_in;  // of those that came least far
  };

  std::optional<std::vector<Action>> judge_hang(const Progress& progress) {
    const double stalled = now_ - progress.last_since;
    const bool began = progress.least >= std::pair<int64_t, int64_t>(0, -1) || progress.least.second >= 0;
    if (stalled <= (began ? policy_.hang_after_seconds : policy_.start_within_seconds)) return std::nullopt;
    if (progress.num_ranks > 1 && 2 * progress.num_last() > progress.num_ranks) {
      const std::string reason = fmt::format(
          "no rank has made a step for {}, and {} of {} have come equally far{}: the network, or all of them",
          seconds(stalled), progress.num_last(), progress.num_ranks,
          progress.waits_in.empty() ? "" : ", into " + progress.waits_in);
      // Due at once, and not held against any: num_fruitless bounds it.
      for (int rank = 0; rank < fleet_.num_ranks(); ++rank) fleet_.pending[rank] = {.due = now_, .reason = reason};
      return std::nullopt;
    }
    for (const auto& [begin, end] : progress.last) {
      for (int rank = begin; rank < end; ++rank) {
        if (machine_of(fleet_.slot_of_rank(rank)) < 0) continue;
        const std::string what = fmt::format(
            "{} has made no step for {} while its process lives{}", fleet_.rank_name(rank), seconds(stalled),
            progress.others_wait_in.empty() ? "" : "; its peers wait in " + progress.others_wait_in);
        if (auto stopped = restart_or_replace(rank, what)) return stopped;
      }
    }
    return std::nullopt;
  }

  bool can_shrink() const {
    return fleet_.num_blocks > 1 && fleet_.data_ranks() - fleet_.shape.data_ranks_per_block() >= policy_.min_data_ranks;
  }

  // At most `count`, the best first.
  std::vector<int> live_spares(size_t count) const {
    std::vector<int> live;
    for (const auto& [num_faults, id] : fleet_.spares) {
      if (live.size() == count) break;
      const double seen_at = std::max(fleet_.machine_seen_at.at(id), fleet_.trusted_since);
      if (now_ - seen_at <= policy_.dead_after_seconds) live.push_back(id);
    }
    return live;
  }

  std::vector<Action> repair() {
    if (fleet_.num_fruitless >= policy_.max_fruitless) {
      return stop(fmt::format("{} restarts of the run in a row without a new step after step {}", fleet_.num_fruitless,
                              fleet_.best_step),
                  "read the logs of the ranks named last; when the cause is gone, resume");
    }
    if (fleet_.num_fruitless > 1) {
      const double due = fleet_.generation_since + backoff(static_cast<size_t>(fleet_.num_fruitless - 1));
      if (now_ < due) {
        return proceed(
            fmt::format("{} restarts without a new step: the next in {}", fleet_.num_fruitless, seconds(due - now_)));
      }
    }
    while (can_shrink() && live_spares(fleet_.vacant.size()).size() < fleet_.vacant.size()) shrink();
    if (!fleet_.vacant.empty()) fill_vacancies();
    if (!fleet_.vacant.empty()) return wait_for_machines();
    fleet_.short_since = -1;
    restart_due();
    if (actions_.empty()) {
      const auto next =
          std::ranges::max_element(fleet_.pending, {}, [](const auto& entry) { return entry.second.due; });
      return proceed(
          fmt::format("{}; it is started again in {}", next->second.reason, seconds(next->second.due - now_)));
    }
    begin_generation();
    ++fleet_.num_fruitless;
    return std::move(actions_);
  }

  // Lets go of the block that lacks most machines; the rest of them are spares.
  void shrink() {
    const int width = fleet_.shape.machines_per_block(), last = fleet_.num_blocks - 1;
    std::map<int, int> missing;
    for (const auto& [slot, vacancy] : fleet_.vacant) ++missing[slot / width];
    int block = missing.begin()->first;
    for (const auto& [candidate, count] : missing) {
      if (count >= missing[block]) block = candidate;
    }
    const std::string reason = fleet_.vacant.lower_bound(block * width)->second.reason;
    erase_range(fleet_.vacant, block * width, (block + 1) * width);
    for (int slot = block * width; slot < (block + 1) * width; ++slot) {
      const int id = machine_of(slot);
      if (id < 0) continue;
      Machine& freed = fleet_.machines[static_cast<size_t>(id)];
      freed = {.state = MachineState::kSpare, .num_faults = freed.num_faults};
      fleet_.spares.emplace(freed.num_faults, id);
    }
    if (block != last) move_block(last, block);
    fleet_.num_blocks = last;
    fleet_.machine_of_slot.resize(static_cast<size_t>(fleet_.num_slots()));
    erase_range(fleet_.vacant, fleet_.num_slots(), INT32_MAX);
    fleet_.ranks.resize(fleet_.num_ranks(), {});
    fleet_.processes.resize(fleet_.num_ranks(), 0);
    erase_range(fleet_.drained_at, fleet_.num_slots(), INT32_MAX);
    erase_range(fleet_.pending, fleet_.num_ranks(), INT32_MAX);
    erase_range(fleet_.history, fleet_.num_ranks(), INT32_MAX);
    actions_.push_back({Shrink{.data_ranks = fleet_.data_ranks(), .block = block},
                        fmt::format("{}, and spares are too few: {} data ranks go on", reason, fleet_.data_ranks())});
  }

  // The ranks of block `to` are from now on those of block `from`.
  void move_block(int from, int to) {
    const int width = fleet_.shape.machines_per_block(), ranks = fleet_.shape.ranks_per_block();
    for (int i = 0; i < width; ++i) {
      const int slot = to * width + i, id = machine_of(from * width + i);
      fleet_.machine_of_slot[static_cast<size_t>(slot)] = id;
      if (id >= 0) fleet_.machines[static_cast<size_t>(id)].slot = slot;
    }
    fleet_.ranks.copy(from * ranks, to * ranks, ranks);
    fleet_.processes.copy(from * ranks, to * ranks, ranks);
    move_keys(fleet_.drained_at, from * width, to * width, width);
    move_keys(fleet_.vacant, from * width, to * width, width);
    move_keys(fleet_.pending, from * ranks, to * ranks, ranks);
    move_keys(fleet_.history, from * ranks, to * ranks, ranks);
  }

  template <class Map>
  static void move_keys(Map& map, int from, int to, int count) {
    erase_range(map, to, to + count);
    for (auto entry = map.lower_bound(from); entry != map.end() && entry->first < from + count;) {
      auto node = map.extract(entry++);
      node.key() += to - from;
      map.insert(std::move(node));
    }
  }

  void fill_vacancies() {
    const std::vector<int> spares = live_spares(fleet_.vacant.size());
    // All or none: whoever waits for one more machine has no use for the others yet.
    if (spares.size() < fleet_.vacant.size()) return;
    for (const int spare : spares) {
      const int slot = fleet_.vacant.begin()->first;
      const Vacancy vacancy = fleet_.vacant.begin()->second;
      place(slot, spare);
      actions_.push_back({ReplaceMachine{.slot = slot, .machine = vacancy.machine, .spare = spare},
                          fmt::format("{}; its ranks move to {}", vacancy.reason, fleet_.machine_name(spare))});
    }
  }

  void place(int slot, int id) {
    Machine& spare = fleet_.machines[static_cast<size_t>(id)];
    fleet_.spares.erase({spare.num_faults, id});
    spare.state = MachineState::kInRun;
    spare.slot = slot;
    fleet_.machine_of_slot[static_cast<size_t>(slot)] = id;
    fleet_.vacant.erase(slot);
    const int first_rank = slot * fleet_.shape.ranks_per_machine;
    start(first_rank, first_rank + fleet_.shape.ranks_per_machine);
  }

  void start(int first_rank, int end_rank) {
    fleet_.ranks.assign(first_rank, end_rank, {.seen_at = now_, .progress_at = now_});
    fleet_.processes.assign(first_rank, end_rank, next_generation_);
  }

  std::vector<Action> wait_for_machines() {
    // What was dropped so far stays dropped.
    const bool changed = !actions_.empty();
    if (changed) begin_generation();
    if (fleet_.short_since < 0) fleet_.short_since = now_;
    const double waited = now_ - fleet_.short_since;
    const std::string reason = fmt::format("{} machines are missing for {} data ranks, and at least {} are wanted",
                                           fleet_.vacant.size(), fleet_.data_ranks(), policy_.min_data_ranks);
    if (waited > policy_.give_up_seconds) {
      return stop(fmt::format("{}, for {}", reason, seconds(waited)), "bring machines back or add some, resume");
    }
    if (changed) return std::move(actions_);
    return proceed(fmt::format("{}; the run waits for {} more", reason, seconds(policy_.give_up_seconds - waited)));
  }

  // Together, once the last is due: nobody can run before.
  void restart_due() {
    for (const auto& [rank, restart] : fleet_.pending) {
      if (restart.due > now_) {
        // A generation that begins anyway takes those along that were to wait.
        if (actions_.empty()) return;
        break;
      }
    }
    if (fleet_.num_finished > 0) {
      fleet_.ranks.for_each([&](int begin, int end, const RankReport& report) {
        for (int rank = begin; report.finished && rank < end; ++rank) {
          fleet_.pending.try_emplace(rank,
                                     PendingRestart{now_, fleet_.rank_name(rank) + " had finished before others"});
        }
      });
    }
    for (auto entry = fleet_.pending.begin(); entry != fleet_.pending.end();) {
      const int first = entry->first;
      const std::string reason = entry->second.reason;
      int end = first;
      while (entry != fleet_.pending.end() && entry->first == end) {
        ++end;
        ++entry;
      }
      actions_.push_back({RestartRanks{.first_rank = first, .end_rank = end},
                          end == first + 1 ? reason : fmt::format("{}; so up to rank {}", reason, end - 1)});
      start(first, end);
    }
    fleet_.pending.clear();
  }

  std::optional<std::vector<Action>> drain_straggler() {
    if (fleet_.slow.empty() || fleet_.spares.empty()) return std::nullopt;
    int worst = -1;
    float worst_ratio = policy_.straggler_ratio;
    for (const auto& [rank, window] : fleet_.slow) {
      if (static_cast<int>(window.ratios.size()) < policy_.straggler_steps || rank >= fleet_.num_ranks()) continue;
      // Slow on two machines: the work is more, not the machine slower.
      const auto drained = fleet_.drained_at.find(fleet_.slot_of_rank(rank));
      if (drained != fleet_.drained_at.end() && now_ - drained->second < policy_.restart_window_seconds) continue;
      float sum = 0;
      for (const float ratio : window.ratios) sum += ratio;
      const float mean = sum / static_cast<float>(window.ratios.size());
      if (mean <= worst_ratio) continue;
      worst_ratio = mean;
      worst = rank;
    }
    const std::vector<int> spares = worst < 0 ? std::vector<int>() : live_spares(1);
    if (spares.empty()) return std::nullopt;
    const int slot = fleet_.slot_of_rank(worst), id = machine_of(slot);
    const std::string reason = fmt::format("{} took {:.0f} % longer than its peers over {} steps",
                                           fleet_.rank_name(worst), 100 * (worst_ratio - 1), policy_.straggler_steps);
    lose_machine(slot, reason);
    place(slot, spares.front());
    fleet_.drained_at[slot] = now_;
    actions_.push_back({Drain{.slot = slot, .machine = id, .spare = spares.front()}, reason});
    begin_generation();
    return std::move(actions_);
  }

  std::optional<std::vector<Action>> grow() {
    const int width = fleet_.shape.machines_per_block(), missing = fleet_.shape.num_blocks() - fleet_.num_blocks;
    const std::vector<int> spares =
        missing > 0 ? live_spares(static_cast<size_t>(missing) * static_cast<size_t>(width)) : std::vector<int>();
    const int num_more = static_cast<int>(spares.size()) / width;
    if (num_more == 0) {
      fleet_.growable_since = -1;
      return std::nullopt;
    }
    if (fleet_.growable_since < 0) fleet_.growable_since = now_;
    if (now_ - fleet_.growable_since < policy_.grow_after_seconds) return std::nullopt;
    fleet_.growable_since = -1;
    Grow grow;
    const int num_ranks = (fleet_.num_blocks + num_more) * fleet_.shape.ranks_per_block();
    fleet_.ranks.resize(num_ranks, {});
    fleet_.processes.resize(num_ranks, next_generation_);
    for (int i = 0; i < num_more * width; ++i) {
      grow.machines.push_back(spares[static_cast<size_t>(i)]);
      fleet_.machine_of_slot.push_back(-1);
      place(static_cast<int>(fleet_.machine_of_slot.size()) - 1, grow.machines.back());
    }
    fleet_.num_blocks += num_more;
    grow.data_ranks = fleet_.data_ranks();
    actions_.push_back({std::move(grow), fmt::format("{} machines are back: {} data ranks go on", num_more * width,
                                                     fleet_.data_ranks())});
    begin_generation();
    return std::move(actions_);
  }

  void begin_generation() {
    fleet_.generation = next_generation_;
    fleet_.generation_since = now_;
    fleet_.num_finished = 0;
    fleet_.slow.clear();
  }

  const RecoveryPolicy& policy_;
  Fleet& fleet_;
  const double now_;
  const int64_t next_generation_;
  std::vector<Action> actions_;
};

}  // namespace

Decision decide(const RecoveryPolicy& policy, Fleet& fleet, const Lease& lease, double now) {
  Decision decision{.term = lease.term};
  if (lease.valid(now)) {
    decision.actions = Decider(policy, fleet, now).run();
  } else {
    decision.actions = {{Continue(), fmt::format("the lease of term {} is over: another may decide", lease.term)}};
  }
  decision.generation = fleet.generation;
  return decision;
}

void take_office(Fleet& fleet, double now) { fleet.trusted_since = now; }

}  // namespace colossus
