#include "comm/flight_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/clock.h"

namespace colossus {

int64_t FlightRecorder::start(FlightRecord record) {
  const std::lock_guard lock(mutex_);
  record.sequence = next_++;
  record.collective = record.to < 0 && record.from < 0 ? next_collective_++ : -1;
  record.started = monotonic_seconds();
  record.finished = 0;
  record.failed = false;
  ring_[static_cast<size_t>(record.sequence % kCapacity)] = record;
  return record.sequence;
}

void FlightRecorder::finish(int64_t sequence, bool failed) {
  const std::lock_guard lock(mutex_);
  FlightRecord& record = ring_[static_cast<size_t>(sequence % kCapacity)];
  if (sequence >= next_ || record.sequence != sequence) return;  // overwritten meanwhile
  record.finished = monotonic_seconds();
  record.failed = failed;
}

std::vector<FlightRecord> FlightRecorder::records() const {
  const std::lock_guard lock(mutex_);
  std::vector<FlightRecord> records;
  for (int64_t sequence = std::max<int64_t>(0, next_ - kCapacity); sequence < next_; ++sequence) {
    records.push_back(ring_[static_cast<size_t>(sequence % kCapacity)]);
  }
  return records;
}

std::string rank_list(std::span<const int> ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

std::string describe(const FlightRecord& record) {
  std::string text(record.op);
  if (record.collective >= 0) text += fmt::format(" {}", record.collective);
  if (record.to >= 0) text += fmt::format(" to rank {}", record.to);
  if (record.from >= 0) text += fmt::format(" from rank {}", record.from);
  if (record.step >= 0) text += fmt::format(" (step {})", record.step);
  return text;
}

namespace {

// Comparing the records of all ranks at one moment.
class Comparison {
 public:
  Comparison(const std::string& group, const std::vector<int>& members, const std::vector<RankRecords>& ranks,
             double now)
      : group_(group), members_(members), now_(now) {
    const auto name_of = [&](int place) { return place < 0 ? place : members.at(static_cast<size_t>(place)); };
    for (const RankRecords& rank : ranks) {
      std::vector<FlightRecord>& records = known_[name_of(rank.rank)] = rank.records;
      for (FlightRecord& record : records) {
        record.to = name_of(record.to);
        record.from = name_of(record.from);
      }
    }
    for (const auto& [rank, records] : known_) {
      if (!records.empty() && records.back().under_way()) waiting_[rank] = &records.back();
    }
  }

  std::string text() {
    if (waiting_.empty()) return "";
    collectives();
    for (const auto& [rank, record] : waiting_) {
      if (record->collective < 0) point_to_point(rank, *record);
    }
    for (const int rank : members_) {
      if (!known_.contains(rank)) line(fmt::format("rank {} has sent no records{}", rank, where_others_wait()));
    }
    return text_;
  }

 private:
  // The ranks that wait in one collective, by its number; and those that lag behind it.
  void collectives() {
    std::map<int64_t, std::vector<int>> waiting_in;
    for (const auto& [rank, record] : waiting_) {
      if (record->collective >= 0) waiting_in[record->collective].push_back(rank);
    }
    std::set<int> told;
    for (const auto& [number, waiters] : waiting_in) {
      const FlightRecord& awaited = *waiting_[waiters.front()];
      bool somebody_lacks = false;
      for (const auto& [rank, records] : known_) {
        const FlightRecord* last = last_collective(records);
        if (last != nullptr && last->collective >= number) continue;
        somebody_lacks = true;
        if (!told.insert(rank).second) continue;
        line(fmt::format("rank {} has not reached {}{}, where {} since {:.1f} s; {}", rank, describe(awaited),
                         size_of(awaited), waiters_text(waiters), longest(waiters), doing(records)));
      }
      differing(number, waiters);
      if (!somebody_lacks && known_.size() == members_.size()) everyone_came(number, waiters);
    }
  }

  // Those least far on.
  std::string where_others_wait() {
    std::vector<int> waiters;
    int64_t number = std::numeric_limits<int64_t>::max();
    for (const auto& [rank, record] : waiting_) {
      if (record->collective < 0 || record->collective > number) continue;
      if (record->collective < number) waiters.clear();
      number = record->collective;
      waiters.push_back(rank);
    }
    if (waiters.empty()) return "";
    const FlightRecord& awaited = *waiting_[waiters.front()];
    return fmt::format("; {} in {}{} since {:.1f} s", waiters_text(waiters), describe(awaited), size_of(awaited),
                       longest(waiters));
  }

  // Ranks that call different collectives, or the same one with sizes that cannot fit.
  void differing(int64_t number, const std::vector<int>& waiters) {
    const int first = waiters.front();
    const FlightRecord& expected = *waiting_[first];
    for (const auto& [rank, records] : known_) {
      const auto found = std::find_if(records.begin(), records.end(),
                                      [&](const FlightRecord& record) { return record.collective == number; });
      if (found == records.end() || rank == first) continue;
      const bool same_size = expected.op != "all_gather" || found->sent_bytes == expected.sent_bytes;
      if (found->op == expected.op && same_size) continue;
      line(
          fmt::format("rank {} called {} with {} bytes to send, where rank {} called {} with {}: they do not run the "
                      "same program",
                      rank, describe(*found), found->sent_bytes, first, describe(expected), expected.sent_bytes));
    }
  }

  // Nobody lacks, so what hangs is a transfer, or a rank that failed and left.
  void everyone_came(int64_t number, const std::vector<int>& waiters) {
    std::vector<int> failed;
    for (const auto& [rank, records] : known_) {
      for (const FlightRecord& record : records) {
        if (record.collective == number && record.failed) failed.push_back(rank);
      }
    }
    const std::string what = describe(*waiting_[waiters.front()]);
    if (!failed.empty()) {
      line(fmt::format("{} failed in {}, where {} since {:.1f} s", rank_list(failed), what, waiters_text(waiters),
                       longest(waiters)));
    } else {
      line(fmt::format("every rank has reached {}, and {} since {:.1f} s: a transfer hangs", what,
                       waiters_text(waiters), longest(waiters)));
    }
  }

  void point_to_point(int rank, const FlightRecord& record) {
    std::set<int> peers;
    if (record.to >= 0) peers.insert(record.to);
    if (record.from >= 0) peers.insert(record.from);
    for (const int peer : peers) {
      const auto found = known_.find(peer);
      if (found == known_.end()) {
        line(fmt::format("rank {} waits in {} since {:.1f} s for rank {}, of which there are no records", rank,
                         describe(record), now_ - record.started, peer));
        continue;
      }
      const auto partner = waiting_.find(peer);
      const bool meets = partner != waiting_.end() && ((record.to == peer && partner->second->from == rank) ||
                                                       (record.from == peer && partner->second->to == rank));
      line(fmt::format("rank {} waits in {} since {:.1f} s for rank {}{}; {}", rank, describe(record),
                       now_ - record.started, peer, meets ? ", which is there" : "", doing(found->second)));
    }
  }

  static const FlightRecord* last_collective(const std::vector<FlightRecord>& records) {
    const auto found = std::find_if(records.rbegin(), records.rend(),
                                    [](const FlightRecord& record) { return record.collective >= 0; });
    return found == records.rend() ? nullptr : &*found;
  }

  std::string doing(const std::vector<FlightRecord>& records) const {
    if (records.empty()) return "it has done nothing yet";
    const FlightRecord& last = records.back();
    if (last.under_way()) return fmt::format("it waits in {} since {:.1f} s", describe(last), now_ - last.started);
    return fmt::format("its last was {}, {} {:.1f} s ago", describe(last), last.failed ? "failed" : "done",
                       now_ - last.finished);
  }

  // Of one that takes a while when all is well.
  static std::string size_of(const FlightRecord& record) {
    const int64_t bytes = std::max(record.sent_bytes, record.received_bytes);
    return bytes < 100'000 ? "" : fmt::format(" of {:.1f} MB", static_cast<double>(bytes) * 1e-6);
  }

  static std::string waiters_text(const std::vector<int>& ranks) {
    return rank_list(ranks) + (ranks.size() == 1 ? " waits" : " wait");
  }

  double longest(const std::vector<int>& waiters) {
    double seconds = 0;
    for (const int rank : waiters) seconds = std::max(seconds, now_ - waiting_[rank]->started);
    return seconds;
  }

  void line(const std::string& what) { text_ += fmt::format("[group {}] {}\n", group_, what); }

  const std::string& group_;
  const std::vector<int>& members_;
  const double now_;
  // By the names of ranks, with those of their peers.
  std::map<int, std::vector<FlightRecord>> known_;
  std::map<int, const FlightRecord*> waiting_;  // under way
  std::string text_;
};

}  // namespace

std::string who_waits_for_whom(const std::string& group, const std::vector<int>& members,
                               const std::vector<RankRecords>& ranks, double now) {
  return Comparison(group, members, ranks, now).text();
}

}  // namespace colossus
