// A cluster as the planner sees it: nodes with their GPUs, the network, storage, racks, power, prices, and how all of
// it fails. Read from configs/clusters/*.toml (docs/simulator.md, "Clusters"); every table may say where its figures
// come from and which of them are assumed (plan/assumption.h).
//
//   ASSIGN_OR_RETURN(ClusterConfig cluster, load_config<ClusterConfig>(local_files(), "configs/clusters/x.toml"));
//   for (const AssumedNumber& assumed : assumptions_of(cluster))
//     ASSIGN_OR_RETURN(ClusterConfig worse, with_number(cluster, assumed.path, assumed.high));
//
// Units: 1e9 bytes for GB, watts at the plug of the part, US dollars, seconds or days as named.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/sim/hardware.h"
#include "io/fields.h"
#include "plan/assumption.h"
#include "plan/build_out_spec.h"
#include "train/recovery/fault_draws.h"

namespace colossus {

// What stands around the GPUs of one machine.
struct NodeSpec {
  std::string name;
  double host_watts = 0;       // of all but the GPUs, at full load: processors, NICs, fans, loss in power supplies
  double host_idle_watts = 0;  // and at rest
  double memory_gb = 0;
  double disk_gb = 0;                   // of its own
  double disk_write_gb_per_second = 0;  // to that
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

// Nodes of one kind.
struct PoolSpec {
  std::string name;
  int64_t nodes = 0;
  int64_t spare_nodes = 0;  // of these, kept ready to take the place of lost ones
  int64_t gpus_per_node = 8;
  double arrives_day = 0;                  // of the run's; later: the run grows
  double failure_scale = 1;                // times the rates of failures.components
  std::optional<double> usd_per_gpu_hour;  // rented
  std::optional<double> usd_per_node;      // bought, with its GPUs, without the network
  // Its "GPUs" are cores of a processor: more ranks than cores may share them, which then take turns, and what ranks
  // send each other is copied by the cores, so that nothing is sent beside computation for nothing.
  bool processor_cores = false;
  double shared_clock = 1;  // of a core's speed where several ranks work, over that of one alone: they share more
  GpuSpec gpu;
  NodeSpec node;
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;

  int64_t num_gpus() const { return nodes * gpus_per_node; }
  // Of a job with so many ranks: the cores whose time they share; 0: each rank has a GPU of its own.
  int64_t shared_cores(int64_t ranks) const { return processor_cores ? std::min(ranks, num_gpus()) : 0; }
  double clock_of(int64_t ranks) const { return processor_cores && ranks > 1 ? shared_clock : 1; }
};

struct StorageSpec {
  double store_gb_per_second = 0;       // of the store that all share, in total
  double store_node_gb_per_second = 0;  // of that for one node
  double peer_gb_per_second = 0;        // of one node's copy of another's state, memory to memory
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

struct RackSpec {
  int64_t gpus_per_rack = 8;
  int64_t racks_per_array = 8;  // that are cabled and delivered together
  int64_t arrays_per_hall = 48;
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

struct PowerSpec {
  double pue = 1.2;                       // power of the site over that of the machines
  double load = 0.9;                      // of full power that nodes draw while they train, in the mean
  double network_watts_per_gpu = 0;       // switches and optics; NICs are the node's
  double other_watts_per_gpu = 0;         // storage, management
  std::optional<double> limit_megawatts;  // of the site
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

struct PriceSpec {
  double usd_per_kwh = 0.08;
  double years = 4;                  // over which what is bought is paid
  double network_usd_per_gpu = 0;    // switches, optics, cables
  double building_usd_per_watt = 0;  // of the site's full power: shell, power, cooling
  double building_years = 15;
  double upkeep_per_year = 0.03;  // staff, maintenance: of what was paid for machines and network
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

inline auto field_choices(FaultKind) {
  return std::to_array<FieldChoice<FaultKind>>({{FaultKind::kMachine, "machine"},
                                                {FaultKind::kExit, "exit"},
                                                {FaultKind::kHang, "hang"},
                                                {FaultKind::kSlow, "slow"}});
}

enum class RepairLaw {
  kInfiniteHbd,  // measured: kRepairDays of train/recovery/fault_draws.h
  kQuantiles,    // those of quantile_days
  kLogNormal,    // by median_days and p90_days
};
inline auto field_choices(RepairLaw) {
  return std::to_array<FieldChoice<RepairLaw>>({{RepairLaw::kInfiniteHbd, "infinitehbd"},
                                                {RepairLaw::kQuantiles, "quantiles"},
                                                {RepairLaw::kLogNormal, "log_normal"}});
}

// How long a machine is away.
struct RepairSpec {
  std::string name;
  RepairLaw law = RepairLaw::kInfiniteHbd;
  std::vector<double> quantile_days;  // at equal distances, the least and the greatest included
  double median_days = 1;
  double p90_days = 10;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;

  // As quantiles at equal distances; between two of them a time lies evenly in the logarithm.
  std::vector<double> quantiles() const;
};

struct FailureComponent {
  std::string name;
  double per_1000_node_days = 0;
  FaultKind effect = FaultKind::kMachine;  // how it shows
  std::string repair;                      // by name; "": the first
  void visit_fields(FieldVisitor& v);
};

// What takes neighbours down together: a rack's power, a switch, a cooling loop.
struct FailureGroup {
  std::string name;
  int64_t gpus = 8;  // that hang on one
  double per_1000_group_days = 0;
  double share_hit = 1;  // of its nodes; the others had a second path
  std::string repair;
  void visit_fields(FieldVisitor& v);
};

struct FailureSpec {
  std::vector<FailureComponent> components;
  std::vector<FailureGroup> groups;
  std::vector<RepairSpec> repairs;
  double slow_ratio = 1.2;  // of a slow machine's time over that of the others
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;

  double node_rate() const;                                 // of all components, per 1,000 node-days
  const RepairSpec& repair(const std::string& name) const;  // of a checked spec
};

struct RecoverySpec {
  double silent_seconds = 5;     // until a silent machine counts as lost
  double hang_seconds = 30;      // until one without progress does
  double start_seconds = 120;    // from the decision until the first step, without loading state
  double person_seconds = 1800;  // until somebody resumes a run that stopped
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

// Machines that are taken out on purpose.
struct MaintenanceWindow {
  std::string name;
  double every_days = 30;
  double hours = 4;
  double share = 1;  // of the nodes at once; 1: the run waits until it is over
  void visit_fields(FieldVisitor& v);
};

struct ClusterConfig {
  std::string name;
  std::string description;
  std::vector<PoolSpec> pools;
  NetworkSpec network;
  StorageSpec storage;
  RackSpec racks;
  PowerSpec power;
  PriceSpec prices;
  FailureSpec failures;
  RecoverySpec recovery;
  std::vector<MaintenanceWindow> maintenance;
  BuildOutSpec build_out;
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;

  int64_t num_gpus() const;
  int64_t num_nodes() const;
};

// Watts at the plug of the site for one GPU of the pool: its share of the node, the network and the cooling.
double busy_watts_per_gpu(const ClusterConfig& cluster, const PoolSpec& pool);
double idle_watts_per_gpu(const ClusterConfig& cluster, const PoolSpec& pool);
double peak_megawatts(const ClusterConfig& cluster);  // all at full load

// Dollars. What is owned costs its price spread over its years, with upkeep; power is in the rent, and comes on top of
// what is owned. None where prices are not given.
struct HourlyPrice {
  std::optional<double> rent;  // for an hour
  std::optional<double> owned;
};
HourlyPrice hourly_price(const ClusterConfig& cluster, const PoolSpec& pool);
HourlyPrice hourly_price(const ClusterConfig& cluster);  // of all

}  // namespace colossus
