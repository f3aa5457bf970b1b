#include "plan/calibration.h"

#include <algorithm>

#include "plan/spread.h"

namespace colossus {

void MachineRates::visit_fields(FieldVisitor& v) {
  v.field("gpu", gpu, "names of GPUs that begin so");
  v.group("rates", rates, "what kernels reach");
}

void StackRule::visit_fields(FieldVisitor& v) {
  v.field("source", source, "text in the source of a run");
  v.field("note", note, "text in its note");
  v.field("gpu", gpu, "how its GPU's name begins");
  v.group("stack", stack, "what the software does");
}

void MachineRule::visit_fields(FieldVisitor& v) {
  v.field("gpu", gpu, "how a run names its GPU, or begins");
  v.field("cluster", cluster, "the cluster it is played on");
}

void Calibration::visit_fields(FieldVisitor& v) {
  v.field("rank_deviation", rank_deviation, "of a GPU's time for the same work, as a share", {.min = 0, .max = 1});
  v.list("machines", machines, "rates of kernels");
  v.list("clusters", clusters, "on what published runs are played");
  v.list("stacks", stacks, "the software of published runs");
}

const KernelRates* Calibration::rates_of(const std::string& gpu) const {
  const auto found = std::ranges::find_if(machines, [&](const MachineRates& m) { return gpu.starts_with(m.gpu); });
  return found == machines.end() ? nullptr : &found->rates;
}

const MachineRule* Calibration::cluster_of(const std::string& gpu) const {
  const auto found = std::ranges::find_if(clusters, [&](const MachineRule& m) { return gpu.starts_with(m.gpu); });
  return found == clusters.end() ? nullptr : &*found;
}

const StackConfig& Calibration::stack_of(const std::string& source, const std::string& note,
                                         const std::string& gpu) const {
  static const StackConfig kOwn;
  const auto found = std::ranges::find_if(stacks, [&](const StackRule& rule) {
    return source.find(rule.source) != std::string::npos && note.find(rule.note) != std::string::npos &&
           gpu.starts_with(rule.gpu);
  });
  return found == stacks.end() ? kOwn : found->stack;
}

double Calibration::straggling(int64_t ranks) const { return rank_deviation * largest_of_normals(ranks); }

}  // namespace colossus
