// Which supervisor decides: a record in the store that its holder renews and others take over once it rests. Pure
// transitions; whoever runs them reads and writes the store (comm/key_value_store.h, compare_and_set) and has the time.
//
// Clocks of machines are never compared. A follower's lease_seconds begin when it first sees a record, a leader's
// shorter ones before it wrote it, so that a leader knows its end before another takes over, unless a clock runs a
// fifth faster than another. A supervisor that was stopped in between may still send what it had decided: receivers
// refuse terms lower than the highest they saw (Fence).
//   Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency", 1989.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace colossus {

struct ElectionPolicy {
  double lease_seconds = 10;
  double renew_seconds = 2;

  double held_seconds() const { return 0.8 * lease_seconds; }
};

// What leads, and until when on the clock of who asks.
struct Lease {
  int64_t term = 0;  // 0: never led
  double valid_until = 0;

  bool valid(double now) const { return term > 0 && now < valid_until; }
};

// In the store: "term leader renewals". Must not be removed during a run: terms would begin again.
struct LeaderRecord {
  int64_t term = 0;
  std::string leader;    // unique among processes, also those that came before; no blanks
  int64_t renewals = 0;  // makes each record another
};
std::string print_leader_record(const LeaderRecord& record);
Result<LeaderRecord> parse_leader_record(const std::string& text);

// A compare_and_set to try.
struct LeaderWrite {
  std::optional<std::string> expected;
  std::string value;
  int64_t term = 0;
};
enum class WriteOutcome { kDone, kRefused, kUnknown };

struct Election {
  std::string self;
  std::optional<std::string> seen;  // the record as last read
  double seen_since = -1;           // when it was first read like that; -1: nothing was read yet
  Lease lease;
  double renewed_at = 0;
  // A write whose answer was lost; it is ours if it shows up.
  std::optional<LeaderWrite> unknown;
  double unknown_began = 0;
};

// After reading `record` at `now`: what to write, if anything. kCorrupt when the record is none.
Result<std::optional<LeaderWrite>> next_write(const ElectionPolicy& policy, Election& election,
                                              const std::optional<std::string>& record, double now);
// After trying it; `began` is the time before it was sent.
void on_written(const ElectionPolicy& policy, Election& election, const LeaderWrite& write, WriteOutcome outcome,
                double began);

// Of one who receives decisions: takes each once and in order, and none of a leader of the past.
struct Fence {
  int64_t term = 0;
  int64_t generation = 0;

  bool accepts(int64_t term_of_decision, int64_t generation_of_decision);
};

}  // namespace colossus
