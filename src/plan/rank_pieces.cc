#include "plan/rank_pieces.h"

#include "device/sim/merged_products.h"
#include "parallel/pipeline_cut.h"
#include "plan/stage_run.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

// Of our own stack with ZeRO 1: what programs of a stage take in their runs for a step's last microbatch.
void set_last_arenas(const StageRun& stage, bool has_pipeline, std::vector<UpdateGroup> groups,
                     const std::vector<Program*>& programs, const std::vector<PieceProgram*>& pieces,
                     const Workspace& workspace) {
  if (has_pipeline) exchange_ends_behind(stage, groups);
  const auto buckets = make_update_buckets(stage.model.table, stage.run.optimizer, groups, kUpdateBucketElements);
  const LeafRange leaves = leaves_of_tree(stage.run.train.reduction_leaves, stage.ranks);
  for (size_t i = 0; i < programs.size(); ++i)
    if (const Program last = write_last_run(*programs[i], i, buckets, leaves); !last.operations.empty())
      pieces[i]->last_arena_bytes = arena_bytes(last, workspace);
}

std::vector<Program*> programs_of(PipelinePiece& piece) {
  std::vector<Program*> programs = {&piece.forward, &piece.backward};
  if (!piece.backward_weight.operations.empty()) programs.push_back(&piece.backward_weight);
  return programs;
}

using Passes = std::array<PiecePrograms, kNumPieceKinds>;

Status write_pipeline_pieces(const StageRun& stage, const Layout& layout, bool is_own, int64_t layers,
                             const Workspace& workspace, Passes& passes) {
  const std::vector<LayerRange> ranges = {{0, layers}, {layers, 2 * layers}, {2 * layers, 3 * layers}};
  const Program evaluation = fuse(stage.model.forward.program);
  for (size_t kind = 0; kind < ranges.size(); ++kind) {
    PipelineCut cut{.layers = ranges,
                    .piece = static_cast<int64_t>(kind),
                    .split_backward = layout.mesh.schedule == PipelineScheduleKind::kZeroBubble};
    ASSIGN_OR_RETURN(PipelinePiece piece, cut_pipeline_piece(stage.model.microbatch, cut));
    const std::vector<UpdateGroup> groups = share_programs(stage, programs_of(piece));
    PiecePrograms& programs = passes[kind];
    programs.forward = piece_program(piece.forward, workspace);
    programs.backward = piece_program(piece.backward, workspace);
    programs.backward_weight = piece_program(piece.backward_weight, workspace);
    if (!is_own) {
      merge_products(piece.forward, programs.forward.works);
      merge_products(piece.backward, programs.backward.works);
      merge_products(piece.backward_weight, programs.backward_weight.works);
    }
    if (is_own)
      set_last_arenas(stage, true, groups, programs_of(piece),
                      {&programs.forward, &programs.backward, &programs.backward_weight}, workspace);
    for (const StashKind stash : kStashKinds) programs.stash_bytes[stash] = piece.stashes[stash].num_bytes;
    cut.split_backward = false;
    ASSIGN_OR_RETURN(const PipelinePiece evaluated, cut_pipeline_piece(evaluation, cut));
    programs.evaluation_arena_bytes = arena_bytes(evaluated.forward, workspace);
  }
  return ok_status();
}

// Of pieces of so many layers, each kind.
Result<Passes> write_passes(const ModelConfig& model, const Layout& layout, const StackConfig& stack, int64_t layers,
                            const Workspace& workspace) {
  Passes passes;
  const bool has_pipeline = layout.mesh.pipeline > 1;
  ASSIGN_OR_RETURN(const StageRun stage, write_stage_run(model, layout, stack, has_pipeline ? 3 * layers : layers));
  if (has_pipeline) {
    RETURN_IF_ERROR(write_pipeline_pieces(stage, layout, stack.is_own(), layers, workspace, passes));
    return passes;
  }
  Program microbatch = stage.model.microbatch;
  const std::vector<UpdateGroup> groups = share_programs(stage, {&microbatch});
  PieceProgram& whole = passes[static_cast<size_t>(PieceKind::kWhole)].forward;
  whole = piece_program(microbatch, workspace);
  if (stack.is_own())
    set_last_arenas(stage, false, groups, {&microbatch}, {&whole}, workspace);
  else
    merge_products(microbatch, whole.works);
  return passes;
}

// What is in no program: with ZeRO 3 parameters are packed, for devices that want it, where they are gathered.
void add_packing(int64_t layers, RankPieces& result, size_t at) {
  const double packed = static_cast<double>(layers * result.update->layer.all() + result.update->last.all()) / 2;
  for (auto& of_kind : result.pieces) {
    PiecePrograms& piece = of_kind[at];
    if (piece.forward.works.works.empty()) continue;
    piece.forward.add_work({.packed = packed});
    (result.has_pipeline ? piece.backward : piece.forward).add_work({.packed = packed});
  }
}

}  // namespace

Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     const Workspace& workspace) {
  ASSIGN_OR_RETURN(RankUpdate update, write_rank_update(model, layout, stack, workspace));
  return write_rank_pieces(model, layout, stack, std::make_shared<const RankUpdate>(std::move(update)), workspace);
}

Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     std::shared_ptr<const RankUpdate> update, const Workspace& workspace) {
  RankPieces result;
  result.has_pipeline = layout.mesh.pipeline > 1;
  result.is_own = stack.is_own();
  result.fewest_layers = result.is_own && layout.mesh.zero_stage > 1 ? 3 : 1;
  result.update = std::move(update);
  for (size_t more = 0; more < 2; ++more) {
    const int64_t layers = result.fewest_layers + static_cast<int64_t>(more);
    ASSIGN_OR_RETURN(Passes passes, write_passes(model, layout, stack, layers, workspace));
    for (size_t kind = 0; kind < kNumPieceKinds; ++kind) result.pieces[kind][more] = std::move(passes[kind]);
    if (result.is_own && layout.mesh.zero_stage == 3) add_packing(layers, result, more);
  }
  return result;
}

}  // namespace colossus
