// Many machines' reports side by side: who is slower than the others, who did not answer, whom to take out.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "node_check/figures.h"
#include "node_check/report.h"

namespace colossus {

struct FleetReport {
  std::vector<NodeReport> nodes;     // by name; compared with `medians`
  std::vector<std::string> missing;  // asked, without a report
  std::vector<std::string> faults;   // lines that are no report, nodes that reported twice or were not asked
  Expected medians;                  // of figures that at least three nodes have

  Verdict verdict() const;  // the worst of all; missing nodes are bad
  // To take out of the fleet: bad, slow, missing.
  std::vector<std::string> names_of(Verdict verdict) const;
};

// `text`: JSON lines, as `colossus check --json` writes them, among whatever else Slurm and programs print. Not
// trusted. `asked`: the nodes that should be there; empty: those that are.
FleetReport compare_fleet(std::string_view text, const std::vector<std::string>& asked);

// Of figures that at least three have, and what most have of what is counted.
Expected medians_of(const std::vector<NodeReport>& nodes);

// "scontrol update NodeName=a,b State=DRAIN Reason='...'", one for each reason. Nothing in it but host names and words
// of this program.
std::vector<std::string> drain_commands(const FleetReport& fleet);

// "gpu[001-003,7],login" as Slurm writes lists of nodes (SLURM_JOB_NODELIST). At most 100,000 names.
Result<std::vector<std::string>> expand_host_list(std::string_view list);

}  // namespace colossus
