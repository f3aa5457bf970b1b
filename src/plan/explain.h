// What a judged layout's step is made of, and what stands in the way of a faster one.
#pragma once

#include <string>
#include <vector>

#include "plan/search.h"

namespace colossus {

struct StepPart {
  const char* name;        // "waiting for the tensor axis"
  const char* short_name;  // "tensor"
  double StepTime::*of;
};
// They add up to the step on the stage that computes longest.
const std::vector<StepPart>& step_parts();

struct MemoryPart {
  const char* name;
  double RankMemory::*of;
};
const std::vector<MemoryPart>& memory_parts();

// "" or why the layout does not fit: "does not fit: 87.5 GB, and 75.2 of H100-SXM's 80 are free for programs".
std::string memory_fault(const RankMemory& memory, const GpuSpec& gpu);

// What of a step is longer than in the best one, as shares of that one's: "bubble +1.2 %, tensor +0.4 %".
std::string why_slower(const JudgedLayout& judged, const JudgedLayout& best);

// What keeps the layout from doing better: "network (tensor) 12 %, memory 93 % full". The largest share of the step
// that is no kernel, and the memory where less than a tenth of it is left.
std::string what_binds(const JudgedLayout& judged, const GpuSpec& gpu);

// Training on so many tokens while nothing fails.
struct RunCost {
  double days = 0, gpu_hours = 0, megawatt_hours = 0;
  std::optional<double> usd_rent;   // of the GPUs it uses, power included
  std::optional<double> usd_owned;  // the same where they were bought
};
RunCost cost_of_tokens(const PlanQuestion& question, const JudgedLayout& judged, double tokens);

}  // namespace colossus
