#include "plan/run_plan.h"

#include <algorithm>

namespace colossus {
namespace {

// What data ranks do on a pool, over what they do on that which was judged.
Result<double> speed_on(size_t pool, const PlanQuestion& question, const Calibration& calibration,
                        const JudgedLayout& judged, const RankPieces& pieces) {
  const GpuSpec &gpu = question.cluster.pools[pool].gpu, &as = question.cluster.pools[question.pool].gpu;
  if (gpu.name == as.name && gpu.memory_gb_per_second == as.memory_gb_per_second && gpu.bf16_tflops == as.bf16_tflops)
    return 1.0;
  PlanQuestion other = question;
  other.pool = pool;
  ASSIGN_OR_RETURN(const JudgedLayout there, judge(other, calibration, judged.layout, pieces));
  return judged.time.seconds / there.time.seconds;
}

}  // namespace

Result<RunPlan> run_plan_of(const PlanQuestion& question, const Calibration& calibration, const JudgedLayout& judged,
                            const RankPieces& pieces) {
  const MeshConfig& mesh = judged.layout.mesh;
  const StepTime& time = judged.time;
  RunPlan plan{.gpus_per_data_rank = mesh.tensor * mesh.context * mesh.pipeline,
               .data_ranks = mesh.data * mesh.shard,
               .step_seconds = time.seconds,
               .microbatches = judged.layout.num_microbatches() * mesh.data * mesh.shard,
               .fixed_share = std::max(0.0, time.bubble + time.exposed_data + time.update) / time.seconds,
               .state_gb_per_gpu = (judged.memory.optimizer + judged.memory.weights) * 1e-9};
  for (size_t pool = 0; pool < question.cluster.pools.size(); ++pool) {
    ASSIGN_OR_RETURN(const double speed, speed_on(pool, question, calibration, judged, pieces));
    plan.pool_speed.push_back(speed);
  }
  return plan;
}

}  // namespace colossus
