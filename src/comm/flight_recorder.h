// The last operations of one rank in one group: printed when a wait ends without an answer, compared over all ranks to
// say who waits for whom.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace colossus {

struct FlightRecord {
  int64_t sequence = 0;     // counts the operations of this end from 0
  int64_t collective = -1;  // counts its collectives: equal on all ranks for the same one; -1: point to point
  std::string_view op;      // outlives the record
  int64_t step = -1;
  int to = -1, from = -1;  // the peers of send, receive and send_receive
  int64_t sent_bytes = 0;
  int64_t received_bytes = 0;
  double started = 0;   // monotonic_seconds()
  double finished = 0;  // 0: still under way
  bool failed = false;

  bool under_way() const { return finished == 0; }
};

class FlightRecorder {
 public:
  static constexpr int kCapacity = 64;

  // Of `record` only what the caller knows: op, step, to, from, bytes. One without peers is a collective. Returns its
  // sequence.
  int64_t start(FlightRecord record);
  void finish(int64_t sequence, bool failed);
  // Oldest first; any thread.
  std::vector<FlightRecord> records() const;

 private:
  mutable std::mutex mutex_;
  std::array<FlightRecord, kCapacity> ring_;
  int64_t next_ = 0;
  int64_t next_collective_ = 0;
};

struct RankRecords {
  int rank = 0;                       // in the group
  std::vector<FlightRecord> records;  // oldest first
};

// What differs between the ranks of a group, one line a rank that lags or is waited for:
//   [group data] rank 3 has not reached all_gather 17 (step 12), where ranks 0, 1, 2 wait since 30.1 s; its last was
//   all_to_all 16 (step 12), done 31.0 s ago
// Empty when nobody waits. members[i]: the name of the group's rank i, which is its number in the run. `now` is on the
// clock of the records. A pure function; ranks whose records are missing are named too.
std::string who_waits_for_whom(const std::string& group, const std::vector<int>& members,
                               const std::vector<RankRecords>& ranks, double now);

// "rank 3", "ranks 1, 3"
std::string rank_list(std::span<const int> ranks);

// "all_gather 17 (step 12)", "send to rank 3 (step 12)".
std::string describe(const FlightRecord& record);

}  // namespace colossus
