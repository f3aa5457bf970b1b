// This process's place among the machines of a run: from the command line, or from Slurm.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace colossus {

// As given; empty and 0: not.
struct ClusterArguments {
  int64_t machines = 0;
  int64_t spares = 0;
  std::string machine, store, interface;
};

struct ClusterPlace {
  int machines = 1;  // that fill the run; spares beside them
  int spares = 0;
  std::string machine = "this machine";
  std::string store;         // address; of one machine: ""
  std::string interface;     // to listen on; of one machine: "", the host's name decides
  std::string launch = "-";  // of Slurm's job, and how often that began anew
  int number = -1;           // the place of this machine among the others; -1: any
  std::string slurm_job;

  bool alone() const { return machines + spares == 1; }
};

// `variable`: of the environment, "" where there is none. `out`: the run's directory.
//
// In a job step of Slurm with one task a node, each node is a machine. Otherwise --machines says how many there are.
Result<ClusterPlace> find_cluster_place(const ClusterArguments& arguments, const std::string& out,
                                        const std::function<std::string(const char*)>& variable);
// The same, of the environment of this process, with the interface.
Result<ClusterPlace> find_cluster_place(const ClusterArguments& arguments, const std::string& out);

}  // namespace colossus
