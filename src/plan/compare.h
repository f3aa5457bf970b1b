// The same model on several machines, each with the layout that is best there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/file_system.h"
#include "plan/basis.h"
#include "plan/explain.h"

namespace colossus {

struct ComparedMachine {
  std::string name;  // as it was asked for
  PlanQuestion question;
};
// `name`: a cluster's file (it ends with ".toml"), a cluster of configs/clusters by its name, or a kind of GPU ("h100",
// "b200"): then the asked cluster whose pool has as many GPUs on the nodes of configs/clusters/parts/node-*-KIND.toml,
// with the NVLink domain of the cluster on which runs of that GPU are played (configs/calibration.toml) and the rest of
// the network as it was.
Result<ComparedMachine> compared_machine(const PlanQuestion& asked, const std::string& name,
                                         const Calibration& calibration, FileSystem& files);

struct ComparedLayout {
  std::string name, gpu;
  std::string refused;               // why there is no best layout
  std::optional<JudgedLayout> best;  // of all that are legal there
  Basis basis;
  RunCost cost;
};
// One for each machine; the search of one that fails is in its `refused`.
std::vector<ComparedLayout> compare_machines(const std::vector<ComparedMachine>& machines,
                                             const Calibration& calibration, const std::vector<CheckedRun>& checked,
                                             double tokens);

}  // namespace colossus
