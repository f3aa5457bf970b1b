#include "device/sim/play.h"

#include <algorithm>

namespace colossus {

PlayedProgram play(const PlayableProgram& program, FunctionRef<double(const KernelWork&)> seconds_of) {
  PlayedProgram played;
  played.operations.resize(program.works.size());
  double compute = 0;  // when the compute lane is free
  std::map<RankGroup, double> lanes;
  for (size_t i = 0; i < program.works.size(); ++i) {
    const KernelWork& work = program.works[i];
    double ready = compute;
    for (const int wait : program.waits[i]) ready = std::max(ready, played.operations[static_cast<size_t>(wait)].end);
    const double seconds = seconds_of(work);
    if (work.kind == WorkKind::kCommunication) {
      double& lane = lanes[work.group];
      const double start = std::max(lane, ready);
      lane = start + seconds;
      played.operations[i] = {start, lane};
      played.group_seconds[work.group] += seconds;
      if (!program.outlives_run[i]) played.seconds = std::max(played.seconds, lane);
    } else {
      played.operations[i] = {ready, ready + seconds};
      compute = ready + seconds;
      played.compute_seconds += seconds;
    }
  }
  played.seconds = std::max(played.seconds, compute);
  return played;
}

}  // namespace colossus
