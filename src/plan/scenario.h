// What people change about a cluster to ask "what if": what fails, how many spares there are, machines that join while
// the run goes on. What is changed is no assumption any more: ranges that its file names for it are dropped.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "plan/cluster.h"

namespace colossus {

// A cluster's file with overrides ("build_out.node_pass_rate=0.98"). Who sets a figure knows it: an assumption about it
// is dropped, and its range is no bound.
Result<ClusterConfig> load_cluster(FileSystem& files, const std::string& path,
                                   const std::vector<std::string>& overrides);

// "measured": as the cluster's file has it; "none"; a number: failures in 1,000 node-days, of all components together,
// each in proportion, and of groups in the same; or a TOML file: a table of failures, one that has a table [failures],
// or a whole cluster's.
Status set_failures(FileSystem& files, const std::string& what, ClusterConfig& cluster);

// "2%" of each pool's nodes, or so many nodes of each.
Status set_spares(const std::string& how_many, ClusterConfig& cluster);

// Machines that join on a day: "day 92: +50000 h100, +50000 h200". A name is that of a pool of the cluster, or what a
// file configs/clusters/parts/node-*.toml is called by: "h100" is node-hgx-h100. They have as large a share of spares
// as the cluster had. Networks that end at fewer GPUs are taken to be made wider: then `note` says so.
Status add_growth(FileSystem& files, const std::string& what, ClusterConfig& cluster, std::string& note);

}  // namespace colossus
