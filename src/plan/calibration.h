// What was learned from measurements, and of what: the rates that kernels reach on each kind of GPU, what software
// stacks do, and on which of our clusters a published run is played. configs/calibration.toml has the numbers;
// bench/fit_calibration.cc fits them; docs/accuracy.md says how well they do, and on what they were not fitted.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/sim/kernel_times.h"
#include "plan/layout.h"
#include "plan/published_run.h"

namespace colossus {

struct MachineRates {
  std::string gpu;  // names of GpuSpec that begin so
  KernelRates rates;
  void visit_fields(FieldVisitor& v);
};

// Rows of published runs whose source and note contain these texts; the first rule that holds counts.
struct StackRule {
  std::string source, note;
  std::string gpu;  // and whose gpu begins so
  StackConfig stack;
  void visit_fields(FieldVisitor& v);
};

// What a run's recipe turns on, whatever the release: of the stack's numbers those that are given here. Of all rules
// whose text the recipe contains, in order.
struct RecipeRule {
  std::string recipe;
  std::optional<double> expert_overlap, expert_deviation, routing_passes, routing_kernels, layer_host_ms, attention;
  std::optional<bool> fused_expert_rounding;
  void visit_fields(FieldVisitor& v);
};

struct MachineRule {
  std::string gpu;      // as the row says it, or begins
  std::string cluster;  // a file of configs/clusters
  void visit_fields(FieldVisitor& v);
};

struct Calibration {
  // Of one GPU's time for the same work, as a share: the slowest of N ranks is that many deviations later
  // (the expectation of the largest of N normal numbers).
  double rank_deviation = 0.005;
  std::vector<MachineRates> machines;
  std::vector<MachineRule> clusters;
  std::vector<StackRule> stacks;
  std::vector<RecipeRule> recipes;
  void visit_fields(FieldVisitor& v);

  const KernelRates* rates_of(const std::string& gpu) const;  // null: none begins so
  const MachineRule* cluster_of(const std::string& gpu) const;
  // The rule for a run's software; null: it is our own. Then with what its recipe turns on.
  const StackRule* rule_of(const std::string& source, const std::string& note, const std::string& gpu) const;
  StackConfig stack_of(const PublishedRun& run) const;
  // How much later the slowest of so many ranks is, as a share of the time.
  double straggling(int64_t ranks) const;
};

}  // namespace colossus
