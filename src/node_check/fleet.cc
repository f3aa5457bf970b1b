#include "node_check/fleet.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

namespace colossus {
namespace {

constexpr size_t kMaxNodes = 100'000;
constexpr size_t kMaxFaults = 100;
constexpr size_t kFewestForMedian = 3;
constexpr size_t kMaxReasons = 3;

// A report, or one with srun's label before it ("12: {...}").
std::string_view report_in(std::string_view line) {
  const size_t brace = line.find('{');
  if (brace == std::string_view::npos || line.find_first_not_of("0123456789: \t") != brace) return {};
  return line.substr(brace);
}

void add_fault(FleetReport& fleet, std::string fault) {
  if (fleet.faults.size() < kMaxFaults) fleet.faults.push_back(std::move(fault));
}

std::map<std::string, NodeReport> read_reports(std::string_view text, const std::set<std::string>& asked,
                                               FleetReport& fleet) {
  std::map<std::string, NodeReport> reports;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = report_in(text.substr(at, end - at));
    at = end + 1;
    ++number;
    if (line.empty()) continue;
    auto report = parse_node_report(line);
    if (!report.ok()) {
      add_fault(fleet, fmt::format("line {}: {}", number, report.status().message()));
    } else if (!asked.empty() && !asked.contains(report->host)) {
      add_fault(fleet, fmt::format("line {}: {} was not asked", number, report->host));
    } else if (reports.size() >= kMaxNodes) {
      add_fault(fleet, fmt::format("line {}: more than {} nodes", number, kMaxNodes));
      break;
    } else if (const auto known = reports.find(report->host); known == reports.end()) {
      reports.emplace(report->host, std::move(*report));
    } else {
      // Two tasks on one node, or one that takes another's name: whichever is worse.
      add_fault(fleet, fmt::format("line {}: {} reported twice", number, report->host));
      if (report->verdict() > known->second.verdict()) known->second = std::move(*report);
    }
  }
  return reports;
}

void compare_gpus(NodeReport& node, const Expected& medians) {
  if (medians.gpus.value_or(0) == 0) return;
  for (CheckResult& result : node.results) {
    if (result.name != "gpus" || !result.value) continue;
    result.expected = static_cast<double>(*medians.gpus);
    result.expected_from = "most of the fleet";
    if (*result.value < *result.expected)
      result.worsen(Verdict::kBad, fmt::format("{} GPUs, where most nodes have {}", *result.value, *medians.gpus));
    return;
  }
  node.results.push_back({.name = "gpus", .verdict = Verdict::kBad, .message = "no GPUs, where most nodes have some"});
}

// The names of the failed checks: words of the report, which parse_node_report has looked at.
std::string reason_of(const NodeReport& node) {
  std::vector<std::string> names;
  for (const CheckResult& result : node.results)
    if (result.verdict == node.verdict() && names.size() < kMaxReasons) names.push_back(result.name);
  return fmt::format("colossus check: {}: {}", verdict_name(node.verdict()), fmt::join(names, ", "));
}

}  // namespace

Expected medians_of(const std::vector<NodeReport>& nodes) {
  Expected medians;
  for (const Figure& figure : kFigures) {
    std::vector<double> values;
    for (const NodeReport& node : nodes)
      if (const CheckResult* result = node.find(figure.name); result != nullptr && result->value)
        values.push_back(*result->value);
    if (values.size() >= kFewestForMedian) medians.of(figure.name) = median(values);
  }
  // How many GPUs a node has is no question of speed, but what most have, the others should.
  std::map<int64_t, size_t> votes;
  for (const NodeReport& node : nodes)
    if (const CheckResult* gpus = node.find("gpus"); gpus != nullptr && gpus->value)
      ++votes[static_cast<int64_t>(std::clamp(*gpus->value, 0.0, 1e6))];
  for (const auto& [count, nodes_with] : votes)
    if (nodes_with >= kFewestForMedian && nodes_with * 2 > nodes.size()) medians.gpus = count;
  return medians;
}

Verdict FleetReport::verdict() const {
  Verdict worst = missing.empty() ? Verdict::kPass : Verdict::kBad;
  for (const NodeReport& node : nodes) worst = std::max(worst, node.verdict());
  return worst;
}

std::vector<std::string> FleetReport::names_of(Verdict wanted) const {
  std::vector<std::string> names;
  for (const NodeReport& node : nodes)
    if (node.verdict() == wanted) names.push_back(node.host);
  return names;
}

FleetReport compare_fleet(std::string_view text, const std::vector<std::string>& asked) {
  FleetReport fleet;
  for (auto& [host, report] : read_reports(text, {asked.begin(), asked.end()}, fleet))
    fleet.nodes.push_back(std::move(report));
  for (const std::string& host : asked)
    if (std::none_of(fleet.nodes.begin(), fleet.nodes.end(), [&](const NodeReport& node) { return node.host == host; }))
      fleet.missing.push_back(host);
  fleet.medians = medians_of(fleet.nodes);
  for (NodeReport& node : fleet.nodes) {
    compare_all(node, fleet.medians, "fleet median");
    compare_gpus(node, fleet.medians);
  }
  return fleet;
}

std::vector<std::string> drain_commands(const FleetReport& fleet) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const NodeReport& node : fleet.nodes)
    if (node.verdict() != Verdict::kPass) by_reason[reason_of(node)].push_back(node.host);
  if (!fleet.missing.empty()) by_reason["colossus check: no report"] = fleet.missing;
  std::vector<std::string> commands;
  for (const auto& [reason, hosts] : by_reason)
    commands.push_back(
        fmt::format("scontrol update NodeName={} State=DRAIN Reason='{}'", fmt::join(hosts, ","), reason));
  return commands;
}

Result<std::vector<std::string>> expand_host_list(std::string_view list) {
  std::vector<std::string> hosts;
  const auto wrong = [&](std::string_view what) { return invalid(fmt::format("[{}] {}", list, what)); };
  for (size_t at = 0; at < list.size();) {
    const size_t bracket = list.find('[', at), comma = std::min(list.find(',', at), list.size());
    if (bracket == std::string_view::npos || bracket > comma) {
      hosts.emplace_back(list.substr(at, comma - at));
      at = comma + 1;
    } else {
      const size_t close = list.find(']', bracket);
      if (close == std::string_view::npos) return wrong("a bracket is not closed");
      const size_t end = std::min(list.find(',', close), list.size());
      const std::string_view prefix = list.substr(at, bracket - at), suffix = list.substr(close + 1, end - close - 1);
      if (!is_host_name(fmt::format("{}0{}", prefix, suffix))) return wrong("this is no list of host names");
      std::string_view ranges = list.substr(bracket + 1, close - bracket - 1);
      while (!ranges.empty()) {
        const std::string_view range = ranges.substr(0, ranges.find(','));
        ranges.remove_prefix(std::min(range.size() + 1, ranges.size()));
        const std::string_view first = range.substr(0, range.find('-'));
        const std::string_view last =
            range.find('-') == std::string_view::npos ? first : range.substr(first.size() + 1);
        uint32_t from = 0, to = 0;
        const auto is_whole = [](std::string_view text, uint32_t& value) {
          const auto [after, error] = std::from_chars(text.data(), text.data() + text.size(), value);
          return error == std::errc() && after == text.data() + text.size();
        };
        if (!is_whole(first, from) || !is_whole(last, to) || to < from || first.size() > 10)
          return wrong(fmt::format("\"{}\" is no range of numbers", range));
        if (to - from >= kMaxNodes || hosts.size() + (to - from) >= kMaxNodes) return wrong("too many nodes");
        // "001" keeps its zeros.
        for (uint32_t number = from; number <= to; ++number)
          hosts.push_back(fmt::format("{}{:0{}}{}", prefix, number, first.size(), suffix));
      }
      at = end + 1;
    }
    if (hosts.size() > kMaxNodes) return wrong("too many nodes");
  }
  for (const std::string& host : hosts)
    if (!is_host_name(host)) return wrong("this is no list of host names");
  return hosts;
}

}  // namespace colossus
