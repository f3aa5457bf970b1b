#include "train/recovery/waits.h"

#include <fmt/format.h>

#include <deque>
#include <map>
#include <sstream>

#include "train/recovery/membership.h"

namespace colossus {
namespace {

// What a text says, or nothing. `ops` keeps the names that records point to.
std::vector<GroupRecords> groups_of_text(const std::string& text, std::deque<std::string>& ops) {
  std::istringstream in(text);
  std::vector<GroupRecords> groups;
  for (std::string word; in >> word;) {
    if (word == "group") {
      GroupRecords group;
      size_t num_members = 0;
      if (!(in >> group.group >> group.rank >> num_members) || num_members > text.size()) return {};
      group.members.resize(num_members);
      for (int& member : group.members) in >> member;
      if (!in || group.rank < 0 || static_cast<size_t>(group.rank) >= num_members) return {};
      groups.push_back(std::move(group));
    } else if (word == "record" && !groups.empty()) {
      FlightRecord record;
      double begun = 0, ended = 0;
      in >> ops.emplace_back() >> record.sequence >> record.collective >> record.step >> record.to >> record.from >>
          record.sent_bytes >> record.received_bytes >> begun >> ended >> record.failed;
      const auto num_members = static_cast<int>(groups.back().members.size());
      if (!in || record.to >= num_members || record.from >= num_members) return {};
      record.op = ops.back();
      // Now is 0 here; a record that ended has another time than that.
      record.started = -begun;
      record.finished = ended < 0 ? 0 : -std::max(ended, 1e-9);
      groups.back().records.push_back(record);
    } else {
      return {};
    }
  }
  return groups;
}

}  // namespace

std::string waits_text(const std::vector<GroupRecords>& groups, double now) {
  constexpr size_t kMostRecords = 8;  // of a group
  std::string text;
  for (const GroupRecords& group : groups) {
    text += fmt::format("group {} {} {} {}\n", group.group, group.rank, group.members.size(),
                        fmt::join(group.members, " "));
    const size_t skipped = group.records.size() - std::min(group.records.size(), kMostRecords);
    for (const FlightRecord& record : std::span(group.records).subspan(skipped))
      text +=
          fmt::format("record {} {} {} {} {} {} {} {} {:.3f} {:.3f} {:d}\n", record.op, record.sequence,
                      record.collective, record.step, record.to, record.from, record.sent_bytes, record.received_bytes,
                      now - record.started, record.under_way() ? -1 : now - record.finished, record.failed);
  }
  return text;
}

std::string who_waits(const std::vector<std::string>& texts) {
  std::deque<std::string> ops;
  // Several groups may have a name; members tell them apart.
  std::map<std::pair<std::string, std::vector<int>>, std::vector<RankRecords>> told;
  for (const std::string& text : texts)
    for (GroupRecords& group : groups_of_text(text, ops))
      told[{group.group, group.members}].push_back({.rank = group.rank, .records = std::move(group.records)});
  std::string found;
  for (const auto& [group, records] : told) found += who_waits_for_whom(group.first, group.second, records, 0);
  if (!found.empty()) found.pop_back();  // the last end of line
  return found;
}

std::string who_waits(KeyValueStore& store) {
  const auto generation = current_membership(store);
  if (!generation.ok() || !*generation) return "";
  std::vector<std::string> texts;
  for (const std::string& worker : (*generation)->workers) {
    const auto text = read_waits(store, (*generation)->id, worker);
    if (text.ok()) texts.push_back(*text);
  }
  return who_waits(texts);
}

}  // namespace colossus
