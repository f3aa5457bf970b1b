#include "plan/rank_update.h"

#include <algorithm>

#include "parallel/pipeline_cut.h"
#include "plan/stage_run.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

SharedParameters count_of(const TensorPart& part, const RunConfig& run, const Ranks& ranks) {
  const MeshConfig& mesh = run.mesh;
  const int64_t size =
      local_slice(part.whole.shape, part.placement, ranks.mesh.position(ranks.rank)).shape.num_elements();
  if (part.name == "embedding" && run.model.tie_embeddings) return {.tied = size};
  // Experts that nobody cut are copies like all others.
  if (part.whole.shape.rank() == 3 && mesh.expert * mesh.expert_tensor > 1) return {.experts = size};
  if (part.placement.find(MeshAxis::kTensor)) return {.cut = size};
  return {.copied = size};
}

void count_parameters(const StageRun& stage, RankUpdate& result) {
  for (const ParameterSpec& spec : stage.model.table) {
    const bool before = spec.name == "embedding" || spec.name == "position_embedding";
    SharedParameters& counts = spec.name.starts_with("layers.") ? result.layer : before ? result.first : result.last;
    const SharedParameters more = count_of(stage.model.parameter(spec.name), stage.run, stage.ranks);
    counts.cut += more.cut;
    counts.copied += more.copied;
    counts.experts += more.experts;
    counts.tied += more.tied;
  }
}

// All that is exchanged, and the update behind it: what of it runs beside the last microbatch is a matter of prices
// (exchange_overlap()).
Result<PieceProgram> write_update(const StageRun& stage, const Layout& layout, const StackConfig& stack,
                                  const Workspace& workspace) {
  Program microbatch = stage.model.microbatch;
  std::vector<UpdateGroup> groups = share_programs(stage, {&microbatch});
  const bool has_pipeline = layout.mesh.pipeline > 1;
  if (!stack.is_own())
    for (UpdateGroup& group : groups) group.last_run.reset();
  if (has_pipeline) exchange_ends_behind(stage, groups);
  const UpdateOptions options{.bucket_elements = update_bucket_elements(layout, stack), .world = stage.ranks.all()};
  const auto buckets = make_update_buckets(stage.model.table, {}, groups, options.bucket_elements);
  const LeafRange leaves = leaves_of_tree(stage.run.train.reduction_leaves, stage.ranks);
  ASSIGN_OR_RETURN(const UpdateProgram update, write_update_program(stage.model.table, {}, groups, options));
  PieceProgram all = piece_program(write_exchange(buckets, leaves, ExchangedBehind::kAll), workspace);
  const PieceProgram behind = piece_program(update.program, workspace);
  const auto first = static_cast<int>(all.works.works.size());
  for (std::vector<int> waits : behind.works.waits) {
    for (int& wait : waits) wait += first;
    all.works.waits.push_back(std::move(waits));
  }
  all.works.works.insert(all.works.works.end(), behind.works.works.begin(), behind.works.works.end());
  all.works.outlives_run.insert(all.works.outlives_run.end(), behind.works.outlives_run.begin(),
                                behind.works.outlives_run.end());
  // What runs beside the passes has its place in their arena.
  all.arena_bytes = behind.arena_bytes;
  const Program others = write_exchange(buckets, leaves, ExchangedBehind::kOthers);
  // Each end has terms of its own.
  if (!others.operations.empty())
    all.arena_bytes = std::max(behind.arena_bytes, arena_bytes(others, workspace) * (has_pipeline ? 2 : 1));
  return all;
}

// Of the stage with most layers.
Result<int64_t> update_arena_bytes(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                   const RankUpdate& update, const Workspace& workspace) {
  // One bucket's terms are added up while the next one's arrive and a third one's parameters leave.
  constexpr int64_t kBucketsAtOnce = 4;
  const std::vector<LayerRange> ranges = cut_layers(model.num_layers, layout.mesh.pipeline * layout.mesh.chunks);
  std::vector<int64_t> layers(static_cast<size_t>(layout.mesh.pipeline), 0);
  for (size_t i = 0; i < ranges.size(); ++i) layers[i % layers.size()] += ranges[i].end - ranges[i].begin;
  const int64_t filled = kBucketsAtOnce * update_bucket_elements(layout, stack) / update.layer.all() + 1;
  const int64_t num_layers = std::min(*std::ranges::max_element(layers), filled);
  if (num_layers <= 2) return update.programs[static_cast<size_t>(std::max<int64_t>(1, num_layers) - 1)].arena_bytes;
  ASSIGN_OR_RETURN(const StageRun stage, write_stage_run(model, layout, stack, num_layers));
  ASSIGN_OR_RETURN(const PieceProgram program, write_update(stage, layout, stack, workspace));
  return program.arena_bytes;
}

// What is in no program: accumulators are zero before the first microbatch (with ZeRO 2 and 3 that is in the passes),
// and new parameters are packed once a step for devices that want it; with ZeRO 3 where they are gathered.
void add_work_around(const Layout& layout, int64_t layers, const RankUpdate& update, PieceProgram& program) {
  if (layout.mesh.zero_stage == 3) return;
  const auto matrices = static_cast<double>(layers * update.layer.all() + update.last.all());
  program.add_work({.packed = matrices});
  if (layout.mesh.zero_stage == 1)
    program.add_work({.bytes = 4 * (matrices + static_cast<double>(update.first.all()))});
}

}  // namespace

Result<RankUpdate> write_rank_update(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     const Workspace& workspace) {
  RankUpdate update;
  for (const int64_t layers : {1, 2}) {
    ASSIGN_OR_RETURN(const StageRun stage, write_stage_run(model, layout, stack, layers));
    if (layers == 1) count_parameters(stage, update);
    PieceProgram& program = update.programs[static_cast<size_t>(layers - 1)];
    ASSIGN_OR_RETURN(program, write_update(stage, layout, stack, workspace));
    if (stack.is_own()) add_work_around(layout, layers, update, program);
  }
  if (stack.is_own()) {
    ASSIGN_OR_RETURN(update.arena_bytes, update_arena_bytes(model, layout, stack, update, workspace));
  }
  return update;
}

}  // namespace colossus
