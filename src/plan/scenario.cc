#include "plan/scenario.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "plan/ready_files.h"

namespace colossus {
namespace {

constexpr std::string_view kParts = "configs/clusters/parts/node-";
constexpr std::string_view kFileEnd = ".toml";

std::optional<double> whole_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\n";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    parts.push_back(trimmed(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

template <class Predicate>
void drop_assumptions(Evidence& evidence, Predicate about) {
  std::erase_if(evidence.assumptions, [&](const Assumption& assumption) { return about(assumption.field); });
}

// A file in which only [failures] matters.
struct FailuresFile {
  FailureSpec failures;
  void visit_fields(FieldVisitor& v) { v.group("failures", failures, "what fails"); }
};

Result<FailureSpec> read_failures(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(ConfigNode tree, load_config_tree(files, path, {}));
  const auto has = [&](const char* key) { return find_key(*tree.table(), key) != nullptr; };
  if (const ConfigNode* failures = find_key(*tree.table(), "failures")) {
    ConfigNode alone = tree;
    alone.value = ConfigTable{{"failures", *failures}};
    ASSIGN_OR_RETURN(FailuresFile file, read_config<FailuresFile>(&files, std::move(alone)));
    return std::move(file.failures);
  }
  if (has("pools") || (has("extends") && !has("components") && !has("groups"))) {
    ASSIGN_OR_RETURN(ClusterConfig other, load_config<ClusterConfig>(files, path));
    return std::move(other.failures);
  }
  return read_config<FailureSpec>(&files, std::move(tree));
}

void scale_failures(FailureSpec& failures, double factor) {
  for (FailureComponent& component : failures.components) component.per_1000_node_days *= factor;
  for (FailureGroup& group : failures.groups) group.per_1000_group_days *= factor;
}

// The words of "hgx-h100-500w" that hold "h100" next to each other: how many others there are; none where they do not.
std::optional<size_t> words_beside(std::string_view part, std::string_view name) {
  const std::string padded = fmt::format("-{}-", part);
  if (padded.find(fmt::format("-{}-", name)) == std::string::npos) return std::nullopt;
  return static_cast<size_t>(std::ranges::count(part, '-') - std::ranges::count(name, '-'));
}

// The parts within the program, by what they are called; a part of the user's own is named by its file.
Result<PoolSpec> load_part(FileSystem& files, const std::string& name, const ClusterConfig& cluster) {
  std::string path = name.ends_with(kFileEnd) ? name : "";
  std::vector<std::string> known;
  for (const PoolSpec& pool : cluster.pools) known.push_back(pool.name);
  size_t fewest = SIZE_MAX;
  for (const ReadyFile& file : ready_file_table()) {
    if (!file.path.starts_with(kParts)) continue;
    const std::string_view part = file.path.substr(kParts.size(), file.path.size() - kParts.size() - kFileEnd.size());
    known.emplace_back(part);
    const auto beside = words_beside(part, name);
    if (!beside || *beside >= fewest) continue;
    fewest = *beside;
    path = file.path;
  }
  if (path.empty()) {
    return invalid(fmt::format("{} is no pool of {} and no part; there are {}, and files", name, cluster.name,
                               fmt::join(known, ", ")));
  }
  // Nodes and name are filled by who asked.
  return load_config<PoolSpec>(files, path, std::vector<std::string>{"nodes=1", "name=new"});
}

struct Growth {
  double day = 0;
  struct Machines {
    int64_t gpus = 0;
    std::string kind;
  };
  std::vector<Machines> machines;
};

Result<Growth> parse_growth(const std::string& text) {
  const auto refuse = [&](const std::string& why) {
    return invalid(
        fmt::format("[--grow] \"{}\": {}; needed is such as \"day 92: +50000 h100, +50000 h200\"", text, why));
  };
  const size_t colon = text.find(':');
  std::string_view day = trimmed(std::string_view(text).substr(0, std::min(colon, text.size())));
  if (colon == std::string::npos || !day.starts_with("day ")) return refuse("it does not begin with \"day N:\"");
  day = trimmed(day.substr(4));
  const auto number = whole_number(day);
  if (!number || *number <= 0) return refuse(fmt::format("\"{}\" is no day after the first", day));
  Growth growth{.day = *number, .machines = {}};
  for (const std::string_view part : split(std::string_view(text).substr(colon + 1), ',')) {
    const size_t space = part.find(' ');
    if (!part.starts_with('+') || space == std::string_view::npos)
      return refuse(fmt::format("\"{}\" is not a number of GPUs and a kind", part));
    const auto gpus = whole_number(part.substr(1, space - 1));
    if (!gpus || *gpus < 1 || *gpus != std::floor(*gpus) || *gpus > 1e9)
      return refuse(fmt::format("\"{}\" is no number of GPUs", part.substr(1, space - 1)));
    growth.machines.push_back({static_cast<int64_t>(*gpus), std::string(trimmed(part.substr(space)))});
  }
  return growth;
}

double spare_share(const ClusterConfig& cluster) {
  int64_t nodes = 0, spares = 0;
  for (const PoolSpec& pool : cluster.pools) nodes += pool.nodes, spares += pool.spare_nodes;
  return static_cast<double>(spares) / static_cast<double>(nodes);
}

}  // namespace

Result<ClusterConfig> load_cluster(FileSystem& files, const std::string& path,
                                   const std::vector<std::string>& overrides) {
  Result<ClusterConfig> as_written = load_config<ClusterConfig>(files, path);
  // What the file lacks may be among the overrides.
  if (!as_written.ok() || overrides.empty()) return load_config<ClusterConfig>(files, path, overrides);
  ClusterConfig& cluster = *as_written;
  bool dropped = false;
  for (const std::string& assignment : overrides) {
    const std::string name = assignment.substr(0, assignment.find('='));
    for (const auto& [table, evidence] : {std::pair{std::string(), &cluster.evidence},
                                          {"storage.", &cluster.storage.evidence},
                                          {"racks.", &cluster.racks.evidence},
                                          {"power.", &cluster.power.evidence},
                                          {"prices.", &cluster.prices.evidence},
                                          {"failures.", &cluster.failures.evidence},
                                          {"recovery.", &cluster.recovery.evidence},
                                          {"build_out.", &cluster.build_out.evidence}}) {
      dropped |= std::erase_if(evidence->assumptions,
                               [&](const Assumption& assumption) { return table + assumption.field == name; }) > 0;
    }
  }
  if (!dropped) return load_config<ClusterConfig>(files, path, overrides);
  return parse_config<ClusterConfig>(print_config(cluster), path, overrides);
}

Status set_failures(FileSystem& files, const std::string& what, ClusterConfig& cluster) {
  if (what == "measured") return ok_status();
  FailureSpec& failures = cluster.failures;
  if (what == "none") {
    failures = {};
  } else if (const auto number = whole_number(what)) {
    constexpr double kMostRate = 1e5;
    if (*number < 0 || *number > kMostRate)
      return invalid(
          fmt::format("[--failures] {}; failures in 1,000 node-days lie between 0 and {:.0f}", what, kMostRate));
    if (failures.node_rate() == 0)
      return invalid(fmt::format("[--failures] {}: nothing of {} fails, so nothing can be scaled; name a file", what,
                                 cluster.name));
    scale_failures(failures, *number / failures.node_rate());
    drop_assumptions(failures.evidence, [](const std::string& field) {
      return field.find("_days") != std::string::npos && !field.starts_with("repairs");
    });
  } else {
    Result<FailureSpec> read = read_failures(files, what);
    if (!read.ok() && read.status().code() == ErrorCode::kNotFound)
      return invalid(
          fmt::format("[--failures] {} is neither measured, none, nor a number of failures in 1,000 node-days, and "
                      "there is no such "
                      "file",
                      what));
    RETURN_IF_ERROR(read);
    if (read->components.empty() && read->groups.empty())
      return invalid(fmt::format("[--failures] {} has no failures; --failures none says that nothing fails", what));
    failures = std::move(*read);
  }
  drop_assumptions(cluster.evidence, [](const std::string& field) { return field.starts_with("failures."); });
  return ok_status();
}

Status set_spares(const std::string& how_many, ClusterConfig& cluster) {
  const bool percent = how_many.ends_with('%');
  const auto number = whole_number(std::string_view(how_many).substr(0, how_many.size() - (percent ? 1 : 0)));
  if (!number || *number < 0 || (percent ? *number >= 100 : *number != std::floor(*number)))
    return invalid(
        fmt::format("[--spares] {}; needed is a share below 100 such as 2%, or a number of nodes", how_many));
  for (PoolSpec& pool : cluster.pools) {
    const double nodes = percent ? *number / 100 * static_cast<double>(pool.nodes) : *number;
    if (nodes >= static_cast<double>(pool.nodes))
      return invalid(
          fmt::format("[--spares] {} leaves none of the {} nodes of {} to train", how_many, pool.nodes, pool.name));
    pool.spare_nodes = std::llround(nodes);
    drop_assumptions(pool.evidence, [](const std::string& field) { return field == "spare_nodes"; });
  }
  drop_assumptions(cluster.evidence, [](const std::string& field) { return field.ends_with(".spare_nodes"); });
  return ok_status();
}

Status add_growth(FileSystem& files, const std::string& what, ClusterConfig& cluster, std::string& note) {
  ASSIGN_OR_RETURN(const Growth growth, parse_growth(what));
  const double spares = spare_share(cluster);
  std::vector<PoolSpec> joining;
  for (const Growth::Machines& machines : growth.machines) {
    const auto pool_named = [&](std::vector<PoolSpec>& pools, const std::string& name) {
      const auto found = std::ranges::find(pools, name, &PoolSpec::name);
      return found == pools.end() ? nullptr : &*found;
    };
    PoolSpec pool;
    if (const PoolSpec* there = pool_named(cluster.pools, machines.kind)) {
      pool = *there;
    } else {
      Result<PoolSpec> part = load_part(files, machines.kind, cluster);
      if (!part.ok()) return part.status().at("--grow");
      pool = std::move(*part);
    }
    pool.name = fmt::format("{}-day-{:g}", machines.kind, growth.day);
    if (pool_named(cluster.pools, pool.name) != nullptr || pool_named(joining, pool.name) != nullptr)
      return invalid(fmt::format("[--grow] {} joins twice on day {:g}; add the numbers", machines.kind, growth.day));
    pool.arrives_day = growth.day;
    pool.nodes = (machines.gpus + pool.gpus_per_node - 1) / pool.gpus_per_node;
    pool.spare_nodes =
        std::min(std::llround(spares * static_cast<double>(pool.nodes)), static_cast<long long>(pool.nodes - 1));
    joining.push_back(std::move(pool));
  }
  cluster.pools.insert(cluster.pools.end(), joining.begin(), joining.end());
  const int64_t gpus = cluster.num_gpus();
  std::vector<NetworkTier>& tiers = cluster.network.tiers;
  if (!tiers.empty() && tiers.back().gpus < gpus) {
    // In whole groups of the tier below.
    const int64_t below = tiers.size() > 1 ? tiers[tiers.size() - 2].gpus : cluster.network.domain_gpus;
    const int64_t reach = (gpus + below - 1) / below * below;
    note = fmt::format("the network of {} ends at {} GPUs: its {} switches are taken to join {}", cluster.name,
                       tiers.back().gpus, tiers.back().name, reach);
    tiers.back().gpus = reach;
  }
  // As a file would be.
  Result<ClusterConfig> checked = parse_config<ClusterConfig>(print_config(cluster), "--grow");
  return checked.ok() ? ok_status() : checked.status();
}

}  // namespace colossus
