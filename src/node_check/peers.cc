#include "node_check/peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sstream>

#include "base/clock.h"
#include "node_check/fleet.h"

namespace colossus {
namespace {

constexpr const char* kRoundKey = "check/peers";

std::string report_key(const PeerPlace& place, int node) { return fmt::format("check/{}/reports/{}", place.id, node); }

// A check that is forming, or was.
struct Round {
  int64_t number = 0;
  double begun = 0;  // on the wall clock
  int num_nodes = 0, num_there = 0;
};

Result<Round> parse_round(const std::string& text) {
  Round round;
  std::istringstream in(text);
  if (!(in >> round.number >> round.begun >> round.num_nodes >> round.num_there) || round.number < 1)
    return corrupt(fmt::format("[store key {}] holds '{}', which no program of this version wrote", kRoundKey,
                               text.substr(0, 200)));
  return round;
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<PeerPlace> take_place_among_peers(KeyValueStore& store, int num_nodes, double patience_seconds) {
  while (true) {
    ASSIGN_OR_RETURN(const auto text, store.get(kRoundKey));
    Round round;
    if (text) {
      ASSIGN_OR_RETURN(round, parse_round(*text));
    }
    const double now = wall_seconds();
    const bool forms =
        round.num_nodes == num_nodes && round.num_there < num_nodes && std::abs(now - round.begun) < patience_seconds;
    if (!forms) round = {.number = round.number + 1, .begun = now, .num_nodes = num_nodes, .num_there = 0};
    const PeerPlace place{.node = round.num_there++, .id = fmt::format("peers-{}", round.number)};
    ASSIGN_OR_RETURN(const bool taken, store.compare_and_set(kRoundKey, text,
                                                             fmt::format("{} {:.3f} {} {}", round.number, round.begun,
                                                                         round.num_nodes, round.num_there)));
    if (taken) return place;
  }
}

Status compare_with_peers(KeyValueStore& store, const PeerPlace& place, int num_nodes, double patience_seconds,
                          NodeReport& report) {
  RETURN_IF_ERROR(store.set(report_key(place, place.node), to_json_line(report)));
  std::vector<NodeReport> all = {report};
  const double deadline = monotonic_seconds() + patience_seconds;
  for (int node = 0; node < num_nodes; ++node) {
    if (node == place.node) continue;
    const auto text = store.wait_for(report_key(place, node), std::max(0.1, deadline - monotonic_seconds()));
    if (!text.ok() && text.status().code() == ErrorCode::kUnavailable) continue;
    RETURN_IF_ERROR(text.status());
    ASSIGN_OR_RETURN(NodeReport other, parse_node_report(*text));
    all.push_back(std::move(other));
  }
  const Expected medians = medians_of(all);
  for (CheckResult& result : report.results)
    if (find_figure(result.name) != nullptr && !result.expected)
      if (const auto& value = medians.of(result.name)) compare(result, *value, "median of the peers");
  return ok_status();
}

}  // namespace colossus
