#include "train/recovery/leader_election.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace colossus {
namespace {

bool read_number(std::string_view text, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

}  // namespace

std::string print_leader_record(const LeaderRecord& record) {
  return fmt::format("{} {} {}", record.term, record.leader, record.renewals);
}

Result<LeaderRecord> parse_leader_record(const std::string& text) {
  const size_t first = text.find(' '), last = text.rfind(' ');
  LeaderRecord record;
  if (first != std::string::npos && first < last) {
    record.leader = text.substr(first + 1, last - first - 1);
    const std::string_view view = text;
    if (read_number(view.substr(0, first), record.term) && read_number(view.substr(last + 1), record.renewals) &&
        record.term > 0 && !record.leader.empty() && record.leader.find(' ') == std::string::npos) {
      return record;
    }
  }
  return corrupt(fmt::format("\"{}\" is not a leader's record; it needs a term, a name and a number", text));
}

Result<std::optional<LeaderWrite>> next_write(const ElectionPolicy& policy, Election& election,
                                              const std::optional<std::string>& record, double now) {
  if (election.seen_since < 0 || record != election.seen) {
    election.seen = record;
    election.seen_since = now;
  }
  LeaderRecord current;
  if (record) {
    ASSIGN_OR_RETURN(current, parse_leader_record(*record));
  }
  if (election.unknown) {
    const LeaderWrite write = *election.unknown;
    // It may still arrive later; until something else is there, nothing can be concluded from its absence.
    if (record == write.value) {
      on_written(policy, election, write, WriteOutcome::kDone, election.unknown_began);
    } else if (record != write.expected) {
      election.unknown.reset();
    }
  }
  if (!record) return std::optional(LeaderWrite{.value = print_leader_record({1, election.self, 0}), .term = 1});
  if (current.leader == election.self && current.term == election.lease.term) {
    if (now < election.renewed_at + policy.renew_seconds) return std::optional<LeaderWrite>();
    ++current.renewals;
    return std::optional(LeaderWrite{.expected = record, .value = print_leader_record(current), .term = current.term});
  }
  if (now - election.seen_since <= policy.lease_seconds) return std::optional<LeaderWrite>();
  const LeaderRecord mine = {.term = current.term + 1, .leader = election.self};
  return std::optional(LeaderWrite{.expected = record, .value = print_leader_record(mine), .term = mine.term});
}

void on_written(const ElectionPolicy& policy, Election& election, const LeaderWrite& write, WriteOutcome outcome,
                double began) {
  if (outcome == WriteOutcome::kUnknown) {
    election.unknown = write;
    election.unknown_began = began;
    return;
  }
  election.unknown.reset();
  if (outcome == WriteOutcome::kRefused) return;
  election.lease = {.term = write.term, .valid_until = began + policy.held_seconds()};
  election.renewed_at = began;
}

bool Fence::accepts(int64_t term_of_decision, int64_t generation_of_decision) {
  if (term_of_decision < term || generation_of_decision <= generation) return false;
  term = term_of_decision;
  generation = generation_of_decision;
  return true;
}

}  // namespace colossus
