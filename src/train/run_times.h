// How long a rank's programs of a microbatch take: what leaves are shared by, and what tells of a slow machine.
#pragma once

#include <array>
#include <vector>

#include "device/device.h"
#include "parallel/pipeline_schedule.h"

namespace colossus {

// Of one microbatch on one rank, in the median over some steps.
struct RankSeconds {
  // By PipelineWork, of all chunks of the rank's stage; without a pipeline all is kForward. What the rank waited for
  // other stages and data ranks does not count; for those that share its sequences (tensor, context) it does.
  std::array<double, kNumPipelineWorks> of_work{};
  double own = 0;  // of all work: without any waiting

  double all_work() const;
};

// Of one program.
class RunTimes {
 public:
  // Its last run, with what it waited for, took so long.
  void add(const Executable& executable, double seconds);
  // Adds what it took since the last call. False, and nothing is added: it did not run.
  bool take(PipelineWork work, RankSeconds& rank);

 private:
  std::vector<double> of_stage_, own_;
};

}  // namespace colossus
