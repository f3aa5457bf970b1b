// One rank's process of a run that survives the loss of others: it trains as long as its peers live, and when they do
// not, waits with its state in memory for the next generation and goes on with that.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "train/recovery/membership.h"
#include "train/trainer.h"

namespace colossus {

struct WorkerOptions {
  std::string id;               // of this process, in Membership::workers
  int ranks_on_machine = 1;     // copies of state go to another machine, where there is one
  double timeout_seconds = 60;  // of a wait for peers
  double heartbeat_seconds = 0.5;
  double lease_seconds = 0;  // after this machine was last heard, see read_lease; 0: no other can take its place
  std::string interface;     // see TcpNetwork
  std::string machine;       // as Ranks::machine
  // On another thread, with each heartbeat: how many milestones were passed.
  std::function<void(int64_t progress)> on_heartbeat = [](int64_t) {};
};

class Worker {
 public:
  // `store`: of the machine. `meeting_store`: in which ranks of all machines find each other; may be the same.
  // `on_trainer` is told of the trainer of each generation before it runs.
  Worker(WorkerOptions options, KeyValueStore& store, KeyValueStore& meeting_store,
         std::function<void(Trainer&)> on_trainer)
      : options_(std::move(options)),
        store_(store),
        meeting_store_(meeting_store),
        on_trainer_(std::move(on_trainer)) {}

  // Until the run is done or stopped, or an error that other ranks did not cause. A stop is a stop of all ranks.
  Result<TrainResult> run(const RunConfig& run, FileSystem& files, Device& device, const std::string& tokenizer_json,
                          TrainObserver& observer, const std::atomic<bool>& stop_requested);

 private:
  // kInterrupted when the run is stopped before it begins.
  Result<Membership> next_membership(const std::atomic<bool>& stop_requested);
  // Until all of them have finished, or a new generation needs this one: then false.
  bool all_finish(const Membership& generation, const std::atomic<bool>& stop_requested);
  Result<TrainResult> run_generation(const Membership& generation, RunConfig run, FileSystem& files, Device& device,
                                     const std::string& tokenizer_json, TrainObserver& observer,
                                     const std::atomic<bool>& stop_requested);
  Heartbeat heartbeat();
  // For others, while it gets nowhere.
  void tell_of_waits(const Heartbeat& now);
  // Why this process must not go on with the generation it is in; empty: it may.
  std::string reason_to_leave();
  void leave_when_it_must();

  const WorkerOptions options_;
  KeyValueStore& store_;
  KeyValueStore& meeting_store_;
  const std::function<void(Trainer&)> on_trainer_;
  std::unique_ptr<StateKeeper> keeper_ = std::make_unique<StateKeeper>();
  std::atomic<int64_t> last_generation_ = 0;
  std::vector<int64_t> wrong_ranks_;  // of the last generation, that computed wrong numbers

  std::mutex mutex_;  // of what the heart's thread reads
  Trainer* trainer_ = nullptr;
  int64_t num_beats_ = 0;

  // Of the heart's thread.
  Heartbeat last_beat_;
  bool told_of_waits_ = false;
};

}  // namespace colossus
