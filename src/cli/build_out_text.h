// `colossus plan --build CLUSTER`: how long a cluster takes to build, and what would have to be true for less.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "cli/command.h"

namespace colossus {

struct BuildOutArguments {
  std::string cluster;  // "": not asked for
  double racks_per_day = 0;
  double within_days = 122;
  double first_step_days = 19;
  int64_t runs = 100;
};
void add_build_out_options(Command& command, BuildOutArguments& arguments);

// `overrides`: a=value over the cluster's file; `gpus`: that are to train; 0: all but the spares.
Status print_build_out(const BuildOutArguments& arguments, const std::vector<std::string>& overrides, int64_t gpus);

}  // namespace colossus
