#include "plan/stage_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "train/shared_state.h"

namespace colossus {
namespace {

int64_t data_ranks(const Layout& layout) { return layout.mesh.data * layout.mesh.shard; }

}  // namespace

Result<StageRun> write_stage_run(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                 int64_t num_layers) {
  StageRun stage;
  RunConfig& run = stage.run;
  run.model = model;
  run.model.num_layers = num_layers;
  run.model.context = std::max(model.context, layout.tokens);
  run.mesh = layout.mesh;
  run.mesh.pipeline = run.mesh.chunks = 1;
  run.mesh.schedule = PipelineScheduleKind::kOneForwardOneBackward;
  if (!stack.is_own()) run.mesh.zero_stage = 1;
  const auto leaves = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(data_ranks(layout))));
  if (run.mesh.zero_stage > 1 && leaves != data_ranks(layout))
    return invalid(fmt::format("[mesh.zero_stage] {} needs a power of two of ranks along data x shard, not {}",
                               run.mesh.zero_stage, data_ranks(layout)));
  run.train.batch = layout.batch;
  run.train.microbatch = layout.microbatch;
  run.train.tokens = layout.tokens;
  run.train.recompute = layout.recompute;
  run.train.reduction_leaves = leaves;
  RETURN_IF_ERROR(check_mesh(run.mesh, mesh_limits(run)));
  stage.ranks = Ranks{.mesh = Mesh(run.mesh), .rank = 0};
  stage.ranks.members = groups_of(stage.ranks.mesh, stage.ranks.rank);
  ASSIGN_OR_RETURN(stage.model, write_rank_model(run, layout.products == ProductType::kF32 ? DType::kF32 : DType::kBF16,
                                                 stage.ranks));
  return stage;
}

std::vector<UpdateGroup> share_programs(const StageRun& stage, const std::vector<Program*>& programs) {
  RankGradients gradients{.programs = {programs.begin(), programs.end()}, .shared = {}};
  std::vector<UpdateGroup> groups =
      update_groups(stage.model, gradients, stage.run.train.reduction_leaves, stage.ranks);
  if (stage.run.mesh.zero_stage == 1) return groups;
  const std::vector<UpdateBucket> buckets =
      make_update_buckets(stage.model.table, stage.run.optimizer, groups, kUpdateBucketElements);
  for (Program* program : programs) *program = share_state(std::move(*program), buckets);
  return groups;
}

void exchange_ends_behind(const StageRun& stage, std::vector<UpdateGroup>& groups) {
  if (!stage.run.model.tie_embeddings) return;
  for (UpdateGroup& group : groups)
    for (const UpdateParameter& parameter : group.parameters)
      if (stage.model.table[parameter.index].name == "embedding") group.last_run.reset();
}

// Others' must grow with the number of ranks, or it is all latency: as Megatron-LM's default (--ddp-bucket-size: 40
// million elements, or a million for each data rank).
int64_t update_bucket_elements(const Layout& layout, const StackConfig& stack) {
  if (stack.is_own()) return kUpdateBucketElements;
  return std::max<int64_t>(40'000'000, 1'000'000 * data_ranks(layout) * layout.mesh.context);
}

}  // namespace colossus
