// How a machine finds its place in a run: the run's life in the store, and a number among its machines.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "train/recovery/run_records.h"

namespace colossus {

struct EntryOptions {
  std::string machine;           // its name: letters, digits, '-', '_', '.'; no other machine's
  std::string launch = "-";      // of a scheduler's job: those of one launch share a life and no other
  int num_machines = 1;          // with spares
  int preferred = -1;            // the number to ask for first
  double lease_seconds = 10;     // a life whose leader rests for longer has ended without saying so
  double patience_seconds = 60;  // for a store that does not answer
};

struct Entry {
  LifeRecord life;
  int machine = 0;
};

// kInvalid: another start of the run is alive, all numbers are taken, or this launch is over. kUnavailable: the store
// does not answer.
Result<Entry> enter_run(KeyValueStore& store, const EntryOptions& options, const std::atomic<bool>& stop_requested,
                        const std::function<void(const std::string&)>& note);
// The life is over; the next start begins another.
Status leave_run(KeyValueStore& store, const LifeRecord& life);

}  // namespace colossus
