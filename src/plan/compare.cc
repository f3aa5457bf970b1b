#include "plan/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "io/config.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

constexpr std::string_view kClusters = "configs/clusters/";
constexpr std::string_view kNodes = "configs/clusters/parts/node-";
constexpr std::string_view kToml = ".toml";

std::string_view stem_of(std::string_view path, std::string_view folder) {
  path.remove_prefix(folder.size());
  return path.substr(0, path.size() - kToml.size());
}

std::vector<std::string> ready_clusters() {
  std::vector<std::string> names;
  for (const ReadyFile& file : ready_file_table())
    if (file.path.starts_with(kClusters) && file.path.find('/', kClusters.size()) == std::string_view::npos)
      names.emplace_back(stem_of(file.path, kClusters));
  return names;
}

// "hgx-h100" is of "h100", and "gb200-tray" of "gb200"; of several the one with the shortest name.
std::optional<std::string> node_part(const std::string& kind) {
  std::optional<std::string> best;
  for (const ReadyFile& file : ready_file_table()) {
    if (!file.path.starts_with(kNodes)) continue;
    const std::string words = "-" + std::string(stem_of(file.path, kNodes)) + "-";
    if (words.find("-" + kind + "-") == std::string::npos) continue;
    if (!best || file.path.size() < best->size()) best = std::string(file.path);
  }
  return best;
}

std::vector<std::string> kinds_of_gpu() {
  std::vector<std::string> kinds;
  for (const ReadyFile& file : ready_file_table()) {
    if (!file.path.starts_with(kNodes)) continue;
    const std::string stem(stem_of(file.path, kNodes));
    std::string word;
    for (const char c : stem + "-") {
      if (c != '-') {
        word += c;
        continue;
      }
      // What is a GPU has digits behind letters, and a node that is found by it.
      if (word.find_first_of("0123456789") > 0 && word.find_first_of("0123456789") != std::string::npos &&
          node_part(word) == std::string(file.path))
        kinds.push_back(word);
      word.clear();
    }
  }
  return kinds;
}

Result<ClusterConfig> on_nodes_of(const PlanQuestion& asked, const std::string& part, const Calibration& calibration,
                                  FileSystem& files) {
  ClusterConfig cluster = asked.cluster;
  PoolSpec& pool = cluster.pools[asked.pool];
  const PoolSpec before = pool;
  ASSIGN_OR_RETURN(pool, load_config<PoolSpec>(files, part,
                                               std::vector<std::string>{"name=\"" + before.name + "\"",
                                                                        fmt::format("nodes={}", before.nodes)}));
  const auto nodes_for = [&](int64_t nodes) {
    return (nodes * before.gpus_per_node + pool.gpus_per_node - 1) / pool.gpus_per_node;
  };
  pool.nodes = nodes_for(before.nodes);
  pool.spare_nodes = nodes_for(before.spare_nodes);
  pool.arrives_day = before.arrives_day;
  if (const MachineRule* rule = calibration.cluster_of(pool.gpu.name); rule && pool.gpu.name != before.gpu.name) {
    ASSIGN_OR_RETURN(const ClusterConfig known,
                     load_config<ClusterConfig>(files, std::string(kClusters) + rule->cluster));
    NetworkSpec& network = cluster.network;
    network.domain_gpus = known.network.domain_gpus;
    // Of a rack of 72 its switches may take 64, and so do jobs of several racks.
    if (!network.tiers.empty() && network.tiers.front().gpus % network.domain_gpus != 0)
      network.domain_gpus = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(network.domain_gpus)));
    network.domain_gb_per_second = known.network.domain_gb_per_second;
    network.domain_latency_us = known.network.domain_latency_us;
    network.in_switch_reduction = known.network.in_switch_reduction;
  }
  // Ranges of assumptions are about the machine as it was.
  cluster = without_assumptions(std::move(cluster));
  cluster.name += fmt::format(" with {}", pool.gpu.name);
  // Checked as a file would be.
  return parse_config<ClusterConfig>(print_config(cluster), cluster.name);
}

}  // namespace

Result<ComparedMachine> compared_machine(const PlanQuestion& asked, const std::string& name,
                                         const Calibration& calibration, FileSystem& files) {
  ComparedMachine machine{.name = name, .question = asked};
  const std::vector<std::string> clusters = ready_clusters();
  const bool is_file = name.ends_with(kToml);
  if (is_file || std::ranges::count(clusters, name) > 0) {
    const std::string path = is_file ? name : std::string(kClusters) + name + std::string(kToml);
    ASSIGN_OR_RETURN(machine.question.cluster, load_config<ClusterConfig>(files, path));
    machine.question.pool = 0;
    return machine;
  }
  const std::optional<std::string> part = node_part(name);
  if (!part) {
    std::vector<std::string> names = kinds_of_gpu();
    const std::string kinds = fmt::format("{}", fmt::join(names, ", "));
    names.insert(names.end(), clusters.begin(), clusters.end());
    const std::string nearest = nearest_name(name, names);
    return invalid(fmt::format(
        "[--compare] {} is neither a cluster's file (.toml), a cluster of configs/clusters, nor a GPU ({}){}", name,
        kinds, nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
  ASSIGN_OR_RETURN(machine.question.cluster, on_nodes_of(asked, *part, calibration, files));
  return machine;
}

std::vector<ComparedLayout> compare_machines(const std::vector<ComparedMachine>& machines,
                                             const Calibration& calibration, const std::vector<CheckedRun>& checked,
                                             double tokens) {
  std::vector<ComparedLayout> rows;
  for (const ComparedMachine& machine : machines) {
    const PlanQuestion& question = machine.question;
    ComparedLayout& row = rows.emplace_back(ComparedLayout{.name = machine.name, .gpu = question.gpu().name});
    if (const Status status = check_products(question); !status.ok()) {
      row.refused = status.message();
      continue;
    }
    auto found = search_layouts(question, calibration, {.keep = 1});
    if (!found.ok()) {
      row.refused = found.status().message();
    } else if (found->best.empty()) {
      row.refused = !found->smallest ? "no layout is legal"
                                     : fmt::format("nothing fits: the smallest layout needs {:.0f} GB of {:.0f}",
                                                   found->smallest->memory.total() * 1e-9, question.gpu().memory_gb);
    } else {
      row.best = std::move(found->best.front());
      row.basis = basis_of(question, row.best->layout, checked);
      row.cost = cost_of_tokens(question, *row.best, tokens);
    }
  }
  return rows;
}

}  // namespace colossus
