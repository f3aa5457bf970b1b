#include "train/recovery/worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "base/clock.h"
#include "base/milestone.h"
#include "train/recovery/waits.h"

namespace colossus {
namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(10);

// Runs `beat` every so often on a thread of its own.
class Heart {
 public:
  Heart(double seconds, std::function<void()> beat) : beat_(std::move(beat)) {
    thread_ = std::thread([this, seconds] {
      std::unique_lock lock(mutex_);
      while (!stopping_) {
        lock.unlock();
        beat_();
        lock.lock();
        wake_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stopping_; });
      }
    });
  }
  ~Heart() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

 private:
  const std::function<void()> beat_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

// The store as the workers of a generation see it: once the next one has begun, there is nobody to wait for.
class StoreOfGeneration final : public KeyValueStore {
 public:
  StoreOfGeneration(KeyValueStore& store, KeyValueStore& machine_store, int64_t generation)
      : store_(store), machine_store_(machine_store), generation_(generation) {}

  Status set(const std::string& key, const std::string& value) override { return store_.set(key, value); }
  Result<std::optional<std::string>> get(const std::string& key) override {
    ASSIGN_OR_RETURN(const auto current, current_membership(machine_store_));
    if (current && current->id > generation_)
      return unavailable(fmt::format("generation {} has begun meanwhile", current->id));
    return store_.get(key);
  }
  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    return store_.compare_and_set(key, expected, value);
  }
  Status remove(const std::string& key) override { return store_.remove(key); }

 private:
  KeyValueStore& store_;
  KeyValueStore& machine_store_;
  const int64_t generation_;
};

// Errors that the loss of a peer brings, here or there.
bool of_others(const Status& status) {
  return status.code() == ErrorCode::kUnavailable || status.code() == ErrorCode::kInterrupted;
}

}  // namespace

Result<Membership> Worker::next_membership(const std::atomic<bool>& stop_requested) {
  while (!stop_requested.load(std::memory_order_relaxed)) {
    auto generation = current_membership(store_);
    // A store that cannot be reached for a while is waited for: the state in memory is worth it.
    if (generation.ok() && *generation && (*generation)->id > last_generation_ &&
        std::ranges::count((*generation)->workers, options_.id) == 1)
      return std::move(**generation);
    if (!generation.ok() && generation.status().code() != ErrorCode::kUnavailable) return generation.status();
    std::this_thread::sleep_for(kPollEvery);
  }
  return interrupted("stopped before the ranks met");
}

std::string Worker::reason_to_leave() {
  if (const auto current = current_membership(store_); current.ok() && *current && (*current)->id > last_generation_)
    return fmt::format("generation {} has begun meanwhile", (*current)->id);
  if (options_.lease_seconds <= 0) return "";
  const auto lease = read_lease(store_);
  const double since = lease.ok() && *lease ? **lease : 0;
  const double silent = monotonic_seconds() - since;
  if (silent < options_.lease_seconds) return "";
  return fmt::format("this machine was not heard for {:.1f} s: others may have taken its place", silent);
}

void Worker::leave_when_it_must() {
  const std::lock_guard lock(mutex_);
  if (!trainer_) return;
  if (const std::string why = reason_to_leave(); !why.empty()) trainer_->abort(why);
}

Heartbeat Worker::heartbeat() {
  const std::lock_guard lock(mutex_);
  Heartbeat heartbeat{.beat = ++num_beats_,
                      .generation = last_generation_,
                      .step = -1,
                      .progress = milestones_passed(),
                      .waits_in = ""};
  if (!trainer_) return heartbeat;
  heartbeat.step = trainer_->step();
  for (const auto& [group, end] : trainer_->ranks().groups.ends()) {
    const auto records = end->flight_recorder().records();
    if (!records.empty() && records.back().under_way()) heartbeat.waits_in = std::string(records.back().op);
  }
  return heartbeat;
}

void Worker::tell_of_waits(const Heartbeat& now) {
  const bool stands = now.generation == last_beat_.generation && now.progress == last_beat_.progress;
  last_beat_ = now;
  if (!stands && !told_of_waits_) return;
  std::vector<GroupRecords> groups;
  {
    const std::lock_guard lock(mutex_);
    if (!trainer_) return;
    const Ranks& ranks = trainer_->ranks();
    for (const GroupMembers& group : groups_of(ranks.mesh, ranks.rank))
      if (const Communicator* end = ranks.groups.find(group.group); end && stands)
        groups.push_back({.group = end->name(),
                          .members = {group.ranks.begin(), group.ranks.end()},
                          .rank = end->rank(),
                          .records = end->flight_recorder().records()});
  }
  told_of_waits_ = stands;
  static_cast<void>(report_waits(store_, now.generation, options_.id, waits_text(groups, monotonic_seconds())));
}

Result<TrainResult> Worker::run(const RunConfig& run, FileSystem& files, Device& device,
                                const std::string& tokenizer_json, TrainObserver& observer,
                                const std::atomic<bool>& stop_requested) {
  const Heart heart(options_.heartbeat_seconds, [&] {
    const Heartbeat now = heartbeat();
    static_cast<void>(write_heartbeat(store_, options_.id, now));  // the next one may go through
    tell_of_waits(now);
    leave_when_it_must();
    options_.on_heartbeat(now.progress);
  });
  while (true) {
    ASSIGN_OR_RETURN(const Membership generation, next_membership(stop_requested));
    {
      const std::lock_guard lock(mutex_);
      last_generation_ = generation.id;
    }
    // At once: a process that stops before its next beat must be known to have come.
    static_cast<void>(write_heartbeat(store_, options_.id, heartbeat()));
    auto result = run_generation(generation, run, files, device, tokenizer_json, observer, stop_requested);
    if (result.ok() && !all_finish(generation, stop_requested)) continue;
    if (result.ok() || !of_others(result.status())) return result;
    observer.on_note(fmt::format("generation {}: {}", generation.id, result.status().message()));
    static_cast<void>(
        report_broken(store_, generation.id, options_.id,
                      {.why = result.status().message(), .wrong_ranks = std::exchange(wrong_ranks_, {})}));
  }
}

bool Worker::all_finish(const Membership& generation, const std::atomic<bool>& stop_requested) {
  milestone("finish");
  static_cast<void>(report_finished(store_, generation.id, options_.id));
  while (!stop_requested.load(std::memory_order_relaxed)) {
    if (const auto all = all_have_finished(store_, generation.id); all.ok() && *all) return true;
    const auto current = current_membership(store_);
    if (current.ok() && *current && (*current)->id > generation.id) return false;
    std::this_thread::sleep_for(kPollEvery);
  }
  return true;
}

Result<TrainResult> Worker::run_generation(const Membership& generation, RunConfig run, FileSystem& files,
                                           Device& device, const std::string& tokenizer_json, TrainObserver& observer,
                                           const std::atomic<bool>& stop_requested) {
  run.mesh = generation.mesh(run.mesh);
  // A run that lost ranks may have come to a layout that its model does not divide.
  RunConfig resolved = run;
  RETURN_IF_ERROR(resolve_with_data(files, resolved));
  RETURN_IF_ERROR(check_layout(resolved));
  const Mesh mesh(run.mesh);
  const auto rank = std::ranges::find(generation.workers, options_.id) - generation.workers.begin();
  if (mesh.size() != static_cast<int64_t>(generation.workers.size()))
    return invalid(fmt::format("generation {} has {} workers for a mesh of {} ranks", generation.id,
                               generation.workers.size(), mesh.size()));
  milestone("join");
  StoreOfGeneration store(meeting_store_, store_, generation.id);
  ASSIGN_OR_RETURN(auto ranks,
                   join_ranks(mesh, rank, store, fmt::format("groups/{}", generation.id),
                              {.timeout_seconds = options_.timeout_seconds, .interface = options_.interface}));
  // A rank alone keeps no copies; those of before would be older than what it does.
  if (mesh.size() == 1) keeper_ = std::make_unique<StateKeeper>();
  // The next machine's rank of the same place, or on one machine the next rank.
  const bool several_machines = mesh.size() > options_.ranks_on_machine;
  ranks->copy_distance = several_machines ? options_.ranks_on_machine : 1;
  ranks->machine = options_.machine;
  ASSIGN_OR_RETURN(const auto trainer, Trainer::create(std::move(run), files, device, tokenizer_json, observer,
                                                       std::move(ranks), mesh.size() > 1 ? keeper_.get() : nullptr));
  on_trainer_(*trainer);
  const auto show = [&](Trainer* shown) {
    const std::lock_guard lock(mutex_);
    trainer_ = shown;
  };
  show(trainer.get());
  leave_when_it_must();
  auto result = trainer->run(stop_requested);
  wrong_ranks_ = trainer->wrong_ranks();
  show(nullptr);
  return result;
}

}  // namespace colossus
