#include "cli/cluster_place.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "comm/key_value_store.h"
#include "comm/network_interface.h"

namespace colossus {
namespace {

constexpr int64_t kMostMachines = 1 << 20;

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

// Digits only; -1 otherwise.
int64_t number_of(const std::string& text) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::atoll(text.c_str());
}

Status read_slurm(const ClusterArguments& arguments, const std::function<std::string(const char*)>& variable,
                  ClusterPlace& place) {
  // Set for the tasks of a step, and not in the shell of an allocation or its script.
  const int64_t nodes = number_of(variable("SLURM_STEP_NUM_NODES")),
                tasks = number_of(variable("SLURM_STEP_NUM_TASKS"));
  const std::string job = variable("SLURM_JOB_ID");
  if (nodes < 1 || job.empty()) return ok_status();
  place.slurm_job = job;
  if (nodes == 1 && arguments.machines <= 1) return ok_status();
  if (tasks != nodes)
    return invalid(
        fmt::format("Slurm started {} tasks on {} nodes; one `colossus train` on each node starts its ranks: "
                    "srun --ntasks-per-node=1",
                    tasks, nodes));
  if (arguments.machines == 0) place.machines = static_cast<int>(nodes - arguments.spares);
  if (place.machines + arguments.spares != nodes)
    return invalid(
        fmt::format("--machines {} and --spares {}, but Slurm gave {} nodes", place.machines, arguments.spares, nodes));
  const std::string restart = variable("SLURM_RESTART_COUNT");
  // Of a job that is queued again the earlier life may not have said that it is over. Steps of one job follow each
  // other, too.
  place.launch = fmt::format("slurm-{}.{}.{}", job, restart.empty() ? "0" : restart, variable("SLURM_STEP_ID"));
  place.number = static_cast<int>(number_of(variable("SLURM_NODEID")));
  place.machine = variable("SLURMD_NODENAME");
  return ok_status();
}

}  // namespace

Result<ClusterPlace> find_cluster_place(const ClusterArguments& arguments, const std::string& out,
                                        const std::function<std::string(const char*)>& variable) {
  ClusterPlace place;
  if (arguments.machines < 0 || arguments.spares < 0 || arguments.machines + arguments.spares > kMostMachines)
    return invalid("--machines and --spares count machines");
  if (arguments.machines > 0) place.machines = static_cast<int>(arguments.machines);
  RETURN_IF_ERROR(read_slurm(arguments, variable, place));
  place.spares = static_cast<int>(arguments.spares);
  if (place.machines < 1) return invalid(fmt::format("{} spares leave no machine for the run", place.spares));
  place.interface = arguments.interface;
  if (place.alone()) {
    if (!arguments.store.empty() || !arguments.machine.empty())
      return invalid("--store and --machine are for runs on several machines; say how many: --machines N");
    place.machine = "this machine";
    place.launch = "-";
    place.number = -1;
    return place;
  }
  if (!arguments.machine.empty())
    place.machine = arguments.machine;
  else if (place.launch == "-")
    place.machine = host_name();
  if (!check_key(place.machine).ok() || place.machine.find('/') != std::string::npos)
    return invalid(
        fmt::format("\"{}\" is no name for a machine: it needs letters, digits, '-', '_' and '.'; give "
                    "--machine",
                    place.machine));
  std::error_code ignored;
  place.store = arguments.store.empty() ? std::filesystem::absolute(out, ignored).string() + "/store" : arguments.store;
  return place;
}

Result<ClusterPlace> find_cluster_place(const ClusterArguments& arguments, const std::string& out) {
  ASSIGN_OR_RETURN(ClusterPlace place, find_cluster_place(arguments, out, [](const char* name) {
                     const char* value = std::getenv(name);
                     return std::string(value == nullptr ? "" : value);
                   }));
  if (place.alone() || !place.interface.empty()) return place;
  constexpr std::string_view kEtcd = "etcd://";
  std::string endpoint;
  if (place.store.starts_with(kEtcd)) {
    endpoint = place.store.substr(kEtcd.size());
    endpoint = endpoint.substr(0, endpoint.find_first_of(",/"));
  }
  ASSIGN_OR_RETURN(place.interface, interface_towards(endpoint));
  return place;
}

}  // namespace colossus
