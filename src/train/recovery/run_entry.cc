#include "train/recovery/run_entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace colossus {
namespace {

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(100)); }

// Whether somebody still leads this life: the leader renews its record.
Result<bool> is_alive(KeyValueStore& store, const LifeRecord& life, double lease_seconds,
                      const std::atomic<bool>& stop_requested) {
  const std::string key = life.prefix() + "/" + kLeaderKey;
  ASSIGN_OR_RETURN(const auto before, store.get(key));
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < 1.25 * lease_seconds && !stop_requested.load()) {
    ASSIGN_OR_RETURN(const auto now, store.get(key));
    if (now != before) return true;
    pause();
  }
  return false;
}

// Nothing: somebody else changed it meanwhile, look again.
Result<std::optional<LifeRecord>> enter_life(KeyValueStore& store, const EntryOptions& options,
                                             const std::atomic<bool>& stop_requested,
                                             const std::function<void(const std::string&)>& note) {
  using Entered = std::optional<LifeRecord>;
  ASSIGN_OR_RETURN(const auto text, store.get(kLifeKey));
  LifeRecord next{.count = 1, .launch = options.launch};
  if (text) {
    ASSIGN_OR_RETURN(const LifeRecord life, parse_life_record(*text));
    const bool same_launch = life.launch == options.launch;
    if (!life.over && same_launch) return Entered(life);
    if (life.over && same_launch && options.launch != "-")
      return invalid("this start of the run is over; another machine has said how it ended");
    if (!life.over) {
      note("the store has a run that was started otherwise; waiting to see whether it is alive");
      ASSIGN_OR_RETURN(const bool alive, is_alive(store, life, options.lease_seconds, stop_requested));
      if (alive)
        return invalid(
            fmt::format("another start of this run is alive in the store (launch {}); stop it, or give "
                        "this run another store and another --out",
                        life.launch));
    }
    next.count = life.count + 1;
  }
  ASSIGN_OR_RETURN(const bool mine, store.compare_and_set(kLifeKey, text, print_life_record(next)));
  return mine ? Entered(next) : Entered();
}

Result<int> take_number(KeyValueStore& store, const EntryOptions& options) {
  const int first = std::clamp(options.preferred, 0, options.num_machines - 1);
  // A machine that comes back has its number.
  for (const bool only_mine : {true, false}) {
    for (int i = 0; i < options.num_machines; ++i) {
      const int number = (first + i) % options.num_machines;
      ASSIGN_OR_RETURN(const auto name, store.get(machine_key(number)));
      if (name == options.machine) return number;
      if (only_mine || name) continue;
      ASSIGN_OR_RETURN(const bool taken, store.compare_and_set(machine_key(number), std::nullopt, options.machine));
      if (taken) return number;
      ASSIGN_OR_RETURN(const auto now, store.get(machine_key(number)));
      if (now == options.machine) return number;  // the answer to an earlier try was lost
    }
  }
  return invalid(
      fmt::format("the run has {} machines and spares, and all have come; more are admitted with "
                  "--spares, from the start of the run on",
                  options.num_machines));
}

}  // namespace

Result<Entry> enter_run(KeyValueStore& store, const EntryOptions& options, const std::atomic<bool>& stop_requested,
                        const std::function<void(const std::string&)>& note) {
  const double begun = monotonic_seconds();
  std::optional<LifeRecord> life;
  for (bool said = false; !stop_requested.load();) {
    Status failed;
    if (!life) {
      auto entered = enter_life(store, options, stop_requested, note);
      if (entered.ok())
        life = *entered;
      else
        failed = entered.status();
    } else {
      const auto part = part_of_store(store, life->prefix());
      const auto number = take_number(*part, options);
      if (number.ok()) return Entry{.life = *life, .machine = *number};
      failed = number.status();
    }
    if (failed.ok()) continue;
    if (failed.code() != ErrorCode::kUnavailable || monotonic_seconds() - begun > options.patience_seconds)
      return failed;
    if (!std::exchange(said, true)) note("waiting for the store: " + failed.message());
    pause();
  }
  return interrupted("stopped before the machines met");
}

Status leave_run(KeyValueStore& store, const LifeRecord& life) {
  LifeRecord over = life;
  over.over = true;
  return store.compare_and_set(kLifeKey, print_life_record(life), print_life_record(over)).status();
}

}  // namespace colossus
