#include "cli/check_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/platform.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "node_check/fleet.h"
#include "node_check/node_check.h"
#include "node_check/peers.h"
#include "node_check/system_text.h"

namespace colossus {
namespace {

constexpr int64_t kMaxResultsBytes = int64_t{1} << 30;
constexpr int64_t kMiB = int64_t{1} << 20;

struct CheckArguments {
  NodeCheckOptions node;
  std::string expect, write_expected;
  double cpu_seconds = 2;
  int64_t memory_mib = 8192, disk_mib = 512;
  int num_nodes = 0, node_index = -1;
  bool json = false;
  bool peers = false;
  bool fleet = false;
  std::string fleet_results, node_list;
  std::vector<std::string> srun;
  double fleet_timeout = 600;
};

int exit_code_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass: return 0;
    case Verdict::kSlow: return kSlowExitCode;
    case Verdict::kBad: return kBadExitCode;
  }
  return kBadExitCode;
}

std::string figure_text(const CheckResult& result) {
  std::string text;
  if (result.value) text = fmt::format("{:.4g} {}", *result.value, result.unit);
  if (result.expected) text += fmt::format(" ({}: {:.4g})", result.expected_from, *result.expected);
  return text;
}

std::string table_of(const std::vector<CheckResult>& results) {
  size_t width = 0;
  for (const CheckResult& result : results) width = std::max(width, figure_text(result).size());
  std::string text;
  for (const CheckResult& result : results) {
    std::string line = fmt::format("  {:<4}  {:<14}  {:<{}}  {}", verdict_name(result.verdict), result.name,
                                   figure_text(result), width, result.message);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

Status write_expected(const std::string& path, const Expected& expected) {
  if (path.empty()) return ok_status();
  RETURN_IF_ERROR(write_file_atomically(
      local_files(), path, "# For `colossus check --expect`.\n" + print_config(expected, {.comments = true})));
  fmt::print(stderr, "{} is written\n", path);
  return ok_status();
}

int number_in_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<int>(std::strtol(text, nullptr, 10));
}

// Slurm says which of its tasks a process is.
Status place_among_nodes(const CheckArguments& arguments, LinkCheckOptions& links) {
  links.node = arguments.node_index >= 0 ? arguments.node_index : number_in_environment("SLURM_PROCID", -1);
  links.num_nodes = arguments.num_nodes > 0 ? arguments.num_nodes : number_in_environment("SLURM_NTASKS", -1);
  if (links.num_nodes < 2 || links.node < 0 || links.node >= links.num_nodes)
    return invalid(
        fmt::format("[--store] to check links, say which node this is of how many: --node {} --num-nodes {}; "
                    "srun says it by itself",
                    links.node, links.num_nodes));
  if (links.id.empty()) return invalid("[--check-id] all nodes of a check of links need the same new name for it");
  return check_key(links.id);
}

// Only links, to all who run the same command: told by Slurm who they are, or by the store.
Result<PeerPlace> place_among_peers(const CheckArguments& arguments, NodeCheckOptions& options) {
  if (options.store.empty())
    return invalid("[--peers] say where the peers meet: --store /shared/directory or --store etcd://host:port");
  if (!options.only.empty()) return invalid("[--peers] checks links and nothing else; leave --only away");
  options.only = {"links"};
  const char* const job = std::getenv("SLURM_JOB_ID");
  const char* const step = std::getenv("SLURM_STEP_ID");
  if (options.links.id.empty() && job != nullptr && step != nullptr)
    options.links.id = fmt::format("slurm-{}.{}", job, step);
  if (!options.links.id.empty()) {
    RETURN_IF_ERROR(place_among_nodes(arguments, options.links));
    return PeerPlace{.node = options.links.node, .id = options.links.id};
  }
  if (arguments.num_nodes < 2)
    return invalid("[--peers] say how many machines run this command now: --num-nodes N; srun says it by itself");
  ASSIGN_OR_RETURN(const auto store, open_store(options.store));
  ASSIGN_OR_RETURN(PeerPlace place, take_place_among_peers(*store, arguments.num_nodes, options.links.timeout_seconds));
  options.links.node = place.node;
  options.links.num_nodes = arguments.num_nodes;
  options.links.id = place.id;
  return place;
}

Result<int> check_this_node(const CheckArguments& arguments) {
  NodeCheckOptions options = arguments.node;
  if (!arguments.expect.empty()) {
    ASSIGN_OR_RETURN(options.expected, load_config<Expected>(local_files(), arguments.expect));
  }
  options.cpu.seconds = arguments.cpu_seconds;
  options.memory.max_bytes = arguments.memory_mib * kMiB;
  options.disk.max_bytes = arguments.disk_mib * kMiB;
  PeerPlace place;
  if (arguments.peers) {
    ASSIGN_OR_RETURN(place, place_among_peers(arguments, options));
  } else if (!options.store.empty()) {
    RETURN_IF_ERROR(place_among_nodes(arguments, options.links));
  }
  if (!arguments.json && query_terminal(STDERR_FILENO).interactive)
    options.on_check = [](const char* name) { fmt::print(stderr, "checking: {}\n", name); };
  const InterruptScope interrupt("stopping after this check");
  ASSIGN_OR_RETURN(NodeReport report, check_node(local_files(), options, interrupt.requested()));
  if (arguments.peers) {
    ASSIGN_OR_RETURN(const auto store, open_store(options.store));
    RETURN_IF_ERROR(compare_with_peers(*store, place, options.links.num_nodes, options.links.timeout_seconds, report));
  }
  RETURN_IF_ERROR(write_expected(arguments.write_expected, expected_of(report)));
  if (arguments.json) {
    RETURN_IF_ERROR(print(to_json_line(report) + "\n"));
  } else {
    RETURN_IF_ERROR(
        print(fmt::format("{}: {}, {} cores, {}\n{}{}: {} ({:.0f} s)\n", report.host, cpu_model_name(),
                          num_usable_cores(), format_quantity(static_cast<double>(total_memory_bytes()), "bytes"),
                          table_of(report.results), report.host, verdict_name(report.verdict()), report.seconds)));
  }
  return exit_code_of(report.verdict());
}

std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return size > 0 ? std::string(path.data(), static_cast<size_t>(size)) : "colossus";
}

// What srun runs on every node.
std::vector<std::string> fleet_command(const CheckArguments& arguments) {
  std::vector<std::string> words = {"srun", "--ntasks-per-node=1", "--kill-on-bad-exit=0"};
  if (!arguments.node_list.empty()) words.push_back("--nodelist=" + arguments.node_list);
  words.insert(words.end(), arguments.srun.begin(), arguments.srun.end());
  const auto add = [&](const char* name, const auto& value) {
    words.emplace_back(name);
    words.push_back(fmt::format("{}", value));
  };
  words.push_back(own_path());
  words.insert(words.end(), {"check", "--json"});
  add("--dir", arguments.node.disk.directory);
  add("--cpu-seconds", arguments.cpu_seconds);
  add("--memory-mib", arguments.memory_mib);
  add("--disk-mib", arguments.disk_mib);
  add("--kernel-log-hours", arguments.node.kernel_log_hours);
  for (const std::string& name : arguments.node.only) add("--only", name);
  if (arguments.peers) words.emplace_back("--peers");
  if (!arguments.expect.empty()) add("--expect", arguments.expect);
  if (!arguments.node.store.empty()) {
    add("--store", arguments.node.store);
    // No check before had this one: the store keeps what ranks wrote to find each other.
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    add("--check-id", arguments.node.links.id.empty()
                          ? fmt::format("fleet-{}-{}", std::chrono::duration_cast<std::chrono::seconds>(now).count(),
                                        static_cast<int64_t>(::getpid()))
                          : arguments.node.links.id);
    if (!arguments.node.links.interface.empty()) add("--interface", arguments.node.links.interface);
    add("--link-rounds", arguments.node.links.max_rounds);
  }
  return words;
}

Result<std::string> run_fleet(const CheckArguments& arguments) {
  const std::vector<std::string> words = fleet_command(arguments);
  fmt::print(stderr, "running: {}\n", fmt::join(words, " "));
  ASSIGN_OR_RETURN(const ProgramOutput output, run_program(words, arguments.fleet_timeout));
  if (output.timed_out)
    fmt::print(stderr, "colossus: srun did not end within {} s; what came is used\n", arguments.fleet_timeout);
  // Nodes that are not well make srun fail; without a single report it is srun itself.
  if (output.text.find("\"results\"") == std::string::npos)
    return unavailable(
        fmt::format("srun ended with exit code {} and no report: {}", output.exit_code, output.text.substr(0, 2000)));
  return output.text;
}

Result<int> check_fleet(const CheckArguments& arguments) {
  std::string text, nodes = arguments.node_list;
  if (arguments.fleet_results.empty()) {
    ASSIGN_OR_RETURN(text, run_fleet(arguments));
    if (const char* job = std::getenv("SLURM_JOB_NODELIST"); nodes.empty() && job != nullptr) nodes = job;
  } else {
    ASSIGN_OR_RETURN(text, read_file(local_files(), arguments.fleet_results, kMaxResultsBytes));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> asked, expand_host_list(nodes));
  const FleetReport fleet = compare_fleet(text, asked);
  for (const std::string& fault : fleet.faults) fmt::print(stderr, "colossus: {}\n", fault);
  if (fleet.nodes.empty()) return invalid("there is no report to compare");
  RETURN_IF_ERROR(write_expected(arguments.write_expected, fleet.medians));
  if (arguments.json) {
    for (const NodeReport& node : fleet.nodes) RETURN_IF_ERROR(print(to_json_line(node) + "\n"));
    return exit_code_of(fleet.verdict());
  }
  std::string out;
  for (const NodeReport& node : fleet.nodes) {
    if (node.verdict() == Verdict::kPass) continue;
    std::vector<CheckResult> failed;
    for (const CheckResult& result : node.results)
      if (result.verdict != Verdict::kPass) failed.push_back(result);
    out += fmt::format("{}: {}\n{}", node.host, verdict_name(node.verdict()), table_of(failed));
  }
  for (const std::string& host : fleet.missing) out += fmt::format("{}: no report\n", host);
  out += fmt::format("{} nodes: {} pass, {} slow, {} bad, {} without a report\n",
                     fleet.nodes.size() + fleet.missing.size(), fleet.names_of(Verdict::kPass).size(),
                     fleet.names_of(Verdict::kSlow).size(), fleet.names_of(Verdict::kBad).size(), fleet.missing.size());
  for (size_t i = 0; i < kFigures.size(); ++i)
    if (const auto& value = fleet.medians.values[i])
      out += fmt::format("  median {:<14}  {:.4g} {}\n", kFigures[i].name, *value, kFigures[i].unit);
  const std::vector<std::string> drains = drain_commands(fleet);
  if (!drains.empty()) out += fmt::format("to take them out:\n  {}\n", fmt::join(drains, "\n  "));
  RETURN_IF_ERROR(print(out));
  return exit_code_of(fleet.verdict());
}

std::string footer() {
  std::string text = "Figures, and how far they may fall short of what is expected:\n";
  for (const Figure& figure : kFigures)
    text +=
        fmt::format("  {:<16} {:<8} {:>4.0f} %  {}\n", figure.name, figure.unit, 100 * figure.tolerance, figure.help);
  return text + fmt::format("\nExit codes: 0 pass, {} slow, {} bad; others are errors (colossus --help).\n",
                            kSlowExitCode, kBadExitCode);
}

}  // namespace

void add_check_command(Command root) {
  const auto arguments = std::make_shared<CheckArguments>();
  CheckArguments& a = *arguments;
  Command check = root.add_command("check", "Is this machine, or a whole fleet, fit to join a run? Under two minutes");
  check.option("--dir", a.node.disk.directory, "where the disk is tested: of the run or its checkpoints");
  check.option("--only", a.node.only, fmt::format("one of {}; repeatable", fmt::join(kCheckNames, ", ")));
  check.option("--expect", a.expect, "a TOML file of expected figures; without it little is expected");
  check.option("--write-expected", a.write_expected, "writes such a file, from this machine or the fleet's medians");
  check.flag("--json", a.json, "one line of JSON for each node");
  check.option("--cpu-seconds", a.cpu_seconds, "of each of two tests of all cores", {.min = 0.01, .max = 600});
  check.option("--memory-mib", a.memory_mib, "tested at most; and at most 3/4 of what is free",
               {.min = 1, .max = 1 << 30});
  check.option("--disk-mib", a.disk_mib, "written at most; and at most 1/4 of what is free",
               {.min = 4, .max = 1 << 24});
  check.option("--kernel-log-hours", a.node.kernel_log_hours, "older lines do not count", {.min = 0});
  check.option("--kernel-log", a.node.kernel_log, "a saved log (dmesg) instead of this machine's");
  check.option("--nvidia-smi", a.node.gpu_listings,
               "a saved listing (-q, --query-gpu=... --format=csv, topo -m, nvlink -s) instead of this machine's; "
               "repeatable");
  check.flag("--peers", a.peers, "only links, to all machines that run this now; compares each with the others");
  check.option("--store", a.node.store, "where nodes meet to test links: a directory all see, or etcd://host:port");
  check.option("--check-id", a.node.links.id, "of a test of links: the same for all nodes, new each time");
  check.option("--node", a.node_index, "which node this is; Slurm says it by itself", {.show_default = false});
  check.option("--num-nodes", a.num_nodes, "of how many that check links now", {.show_default = false});
  check.option("--link-rounds", a.node.links.max_rounds, "partners of each node at most", {.min = 1, .max = 1 << 20});
  check.option("--interface", a.node.links.interface, "of the network, for links; else that of the host's name");
  check.flag("--fleet", a.fleet, "runs the check on every node through srun and compares them");
  check.option("--nodelist", a.node_list, "nodes of the fleet, as Slurm writes them: gpu[001-128]; else the job's");
  check.option("--srun", a.srun, "a word for srun, such as --partition=gpu; repeatable");
  check.option("--fleet-timeout", a.fleet_timeout, "seconds for srun", {.min = 1});
  check.option("--fleet-results", a.fleet_results, "compares lines of --json that are there already");
  check.footer(footer);
  check.run_to_exit_code([arguments]() -> Result<int> {
    const bool fleet = arguments->fleet || !arguments->fleet_results.empty();
    return fleet ? check_fleet(*arguments) : check_this_node(*arguments);
  });
}

}  // namespace colossus
