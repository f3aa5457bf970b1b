#include "plan/rank_pieces.h"

#include <algorithm>

#include "device/cpu/cpu_prepare.h"
#include "parallel/pipeline_cut.h"
#include "plan/stage_run.h"
#include "program/memory_plan.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

int64_t arena_bytes(const Program& program, const Workspace& workspace) {
  return plan_memory(program, [&](int at) { return workspace(program, program.operations[static_cast<size_t>(at)]); })
      .arena_bytes;
}

PieceProgram piece_program(const Program& program, const Workspace& workspace) {
  if (program.operations.empty()) return {};
  return {playable(program), arena_bytes(program, workspace)};
}

// What is on both ends of a pipeline is exchanged behind the passes.
void exchange_ends_behind(const StageRun& stage, std::vector<UpdateGroup>& groups) {
  if (!stage.run.model.tie_embeddings) return;
  for (UpdateGroup& group : groups)
    for (const UpdateParameter& parameter : group.parameters)
      if (stage.model.table[parameter.index].name == "embedding") group.last_run.reset();
}

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
  if (stack.is_own()) set_last_arenas(stage, false, groups, {&microbatch}, {&whole}, workspace);
  return passes;
}

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

void count_parameters_of(const RankModel& model, const RunConfig& run, const Ranks& ranks, RankPieces& result) {
  for (const ParameterSpec& spec : model.table) {
    const bool before = spec.name == "embedding" || spec.name == "position_embedding";
    SharedParameters& counts = spec.name.starts_with("layers.") ? result.layer : before ? result.first : result.last;
    const SharedParameters more = count_of(model.parameter(spec.name), run, ranks);
    counts.cut += more.cut;
    counts.copied += more.copied;
    counts.experts += more.experts;
    counts.tied += more.tied;
  }
}

// All that is exchanged, and the update behind it: what of it runs beside the last microbatch is a matter of prices
// (exchange_overlap()).
Result<PieceProgram> write_update(const StageRun& stage, std::vector<UpdateGroup> groups, const Layout& layout,
                                  const StackConfig& stack, const Workspace& workspace) {
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

void add_work(const KernelWork& work, PieceProgram& piece) {
  piece.works.works.push_back(work);
  piece.works.waits.emplace_back();
  piece.works.outlives_run.push_back(0);
}

// What is in no program: accumulators are zero before the first microbatch (with ZeRO 2 and 3 that is in the passes),
// and new parameters are packed once a step for devices that want it; those that are gathered where they are read.
void add_work_around_passes(const Layout& layout, int64_t layers, RankPieces& result) {
  const auto at = static_cast<size_t>(layers - 1);
  const auto matrices = static_cast<double>(layers * result.layer.all() + result.last.all());
  if (layout.mesh.zero_stage < 3) add_work({.packed = matrices}, result.update[at]);
  if (layout.mesh.zero_stage == 1)
    add_work({.bytes = 4 * (matrices + static_cast<double>(result.first.all()))}, result.update[at]);
  if (layout.mesh.zero_stage < 3) return;
  for (auto& of_kind : result.pieces) {
    PiecePrograms& piece = of_kind[at];
    if (piece.forward.works.works.empty()) continue;
    add_work({.packed = matrices / 2}, piece.forward);
    add_work({.packed = matrices / 2}, result.has_pipeline ? piece.backward : piece.forward);
  }
}

// Of so many layers, 1 or 2: the passes and the update.
Status write_pieces_of(const ModelConfig& model, const Layout& layout, const StackConfig& stack, int64_t layers,
                       const Workspace& workspace, RankPieces& result) {
  ASSIGN_OR_RETURN(const StageRun whole, write_stage_run(model, layout, stack, layers));
  if (layers == 1) count_parameters_of(whole.model, whole.run, whole.ranks, result);
  ASSIGN_OR_RETURN(Passes passes, write_passes(model, layout, stack, layers, workspace));
  for (size_t kind = 0; kind < kNumPieceKinds; ++kind)
    result.pieces[kind][static_cast<size_t>(layers - 1)] = std::move(passes[kind]);
  Program microbatch = whole.model.microbatch;
  const std::vector<UpdateGroup> groups = share_programs(whole, {&microbatch});
  ASSIGN_OR_RETURN(result.update[static_cast<size_t>(layers - 1)],
                   write_update(whole, groups, layout, stack, workspace));
  if (result.is_own) add_work_around_passes(layout, layers, result);
  return ok_status();
}

// With ZeRO 2 and 3 buckets of up to three layers are whole at once, so a piece's arena grows evenly from three on:
// what one and two layers take is counted back from there.
Status set_arenas_of_many_layers(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                 const Workspace& workspace, RankPieces& result) {
  ASSIGN_OR_RETURN(const Passes of_three, write_passes(model, layout, stack, 3, workspace));
  ASSIGN_OR_RETURN(const Passes of_four, write_passes(model, layout, stack, 4, workspace));
  for (size_t kind = 0; kind < kNumPieceKinds; ++kind)
    for (PieceProgram PiecePrograms::*pass :
         {&PiecePrograms::forward, &PiecePrograms::backward, &PiecePrograms::backward_weight}) {
      const int64_t three = (of_three[kind].*pass).arena_bytes;
      const int64_t layer = (of_four[kind].*pass).arena_bytes - three;
      for (int64_t layers = 1; layers <= 2; ++layers)
        (result.pieces[kind][static_cast<size_t>(layers - 1)].*pass).arena_bytes = three - (3 - layers) * layer;
    }
  return ok_status();
}

// Of the stage with most layers.
Result<int64_t> update_arena_bytes(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                   const RankPieces& pieces, const Workspace& workspace) {
  // One bucket's terms are added up while the next one's arrive and a third one's parameters leave.
  constexpr int64_t kBucketsAtOnce = 4;
  const std::vector<LayerRange> ranges = cut_layers(model.num_layers, layout.mesh.pipeline * layout.mesh.chunks);
  std::vector<int64_t> layers(static_cast<size_t>(layout.mesh.pipeline), 0);
  for (size_t i = 0; i < ranges.size(); ++i) layers[i % layers.size()] += ranges[i].end - ranges[i].begin;
  const int64_t filled = kBucketsAtOnce * update_bucket_elements(layout, stack) / pieces.layer.all() + 1;
  const int64_t num_layers = std::min(*std::ranges::max_element(layers), filled);
  if (num_layers <= 2) return pieces.update[static_cast<size_t>(std::max<int64_t>(1, num_layers) - 1)].arena_bytes;
  ASSIGN_OR_RETURN(const StageRun stage, write_stage_run(model, layout, stack, num_layers));
  Program microbatch = stage.model.microbatch;
  ASSIGN_OR_RETURN(const PieceProgram update,
                   write_update(stage, share_programs(stage, {&microbatch}), layout, stack, workspace));
  return update.arena_bytes;
}

}  // namespace

int64_t processor_workspace(const Program& program, const Operation& operation) {
  return prepare_operation(program, operation, 1).workspace_bytes;
}

int64_t exchange_workspace(const Program& program, const Operation& operation) {
  return group_of(operation.op) ? processor_workspace(program, operation) : 0;
}

Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     const Workspace& workspace) {
  RankPieces result;
  result.has_pipeline = layout.mesh.pipeline > 1;
  result.is_own = stack.is_own();
  for (int64_t layers = 1; layers <= 2; ++layers)
    RETURN_IF_ERROR(write_pieces_of(model, layout, stack, layers, workspace, result));
  if (result.is_own && layout.mesh.zero_stage > 1)
    RETURN_IF_ERROR(set_arenas_of_many_layers(model, layout, stack, workspace, result));
  if (result.is_own) {
    ASSIGN_OR_RETURN(result.update_arena_bytes, update_arena_bytes(model, layout, stack, result, workspace));
  }
  return result;
}

}  // namespace colossus
